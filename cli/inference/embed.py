"""`cavsync embed`: media files to embeddings with times."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.model_options import ModelOptions
from cavsync.cli.console.options import RayAddressOption, with_options
from cavsync.cli.console.paths import printable
from cavsync.cli.console.warning_lines import warn

if TYPE_CHECKING:
    from cavsync.pipeline.jobs.work import Workers
    from cavsync.train.embedding.windows.files import EmbedderSpec
    from cavsync.train.embedding.windows.window_file import FileRecord, WindowFile
    from cavsync.train.inference.media_files import MediaFiles

# Files with a warning that are named; the metadata of the Parquet file names all.
MAX_NAMED = 10


@with_options
def embed(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO|FOLDER|LIST",
            help="A video or audio file, a folder of such files, or a .txt file with a path in each line.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Parquet file to write, such as x.parquet.")],
    *,
    model: ModelOptions,
    step: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Seconds between the starts of windows.",
            show_default="half the length of a window",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Files at a time. 1 runs in this process, more run as Ray tasks.")
    ] = 1,
    ray_address: RayAddressOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line for each file, and one at the end.")
    ] = False,
) -> None:
    """Embed video and audio files of any length: for every window an audio and an image embedding, with its times.

    A file that is damaged, or has no audio or no video, gives the windows it has, and a warning.
    After an interruption the same command continues.
    """
    from cavsync.pipeline.jobs.work import Workers
    from cavsync.train.data.inputs import find_weights
    from cavsync.train.embedding.windows.files import EmbedderSpec
    from cavsync.train.inference.media_files import list_files

    files = list_files(source)
    weights = find_weights(model.weights()).absolute()
    if not as_json and files.paths != [source]:
        typer.echo(files.describe())
    spec = EmbedderSpec(
        weights=weights,
        step_s=step,
        device=model.device,
        precision=model.precision,
        fields=tuple(model.fields().items()),
    )
    found = _embed(files, spec, out, Workers(workers, ray_address), source, as_json)
    if as_json:
        typer.echo(json.dumps(_summary(found) | {"left_out": found.about["left_out"]}))
    else:
        _print(found)
    if found.num_windows == 0:
        why = f"Error: no file has a window to embed; {found.path} holds the reason of each."
        typer.secho(why, fg=typer.colors.RED, err=True)
        raise typer.Exit(1)


def _embed(
    files: "MediaFiles", spec: "EmbedderSpec", out: Path, workers: "Workers", source: Path, as_json: bool
) -> "WindowFile":
    """Embeds the files under a progress bar, or with a JSON line for each."""
    from cavsync.cli.console.progress import bar
    from cavsync.train.embedding.windows.files import embed_files

    with bar("files", quiet=as_json) as progress:
        task = progress.add_task("embedding", total=len(files.paths), note="")

        def on_file(record: "FileRecord", done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, note="")
            if as_json:
                typer.echo(json.dumps({name: getattr(record, name) for name in record.__dataclass_fields__}))

        def on_second(done: int, total: int) -> None:
            progress.update(task, note=f"{done} of {total} s of this file")

        return embed_files(
            files.paths,
            spec,
            out,
            workers,
            on_file,
            on_second,
            lambda line: typer.echo(line, err=True),
            files.left_out.records(),
            source,
        )


def _summary(found: "WindowFile") -> dict[str, object]:
    states = Counter(str(record.state) for record in found.files)
    return {
        "out": str(found.path),
        "files": len(found.files),
        "states": dict(sorted(states.items())),
        "windows": found.num_windows,
        "with_audio": sum(record.num_with_audio for record in found.files),
        "with_image": sum(record.num_with_image for record in found.files),
        "width": found.width,
    }


def _print(found: "WindowFile") -> None:
    """A warning for each file that is not complete, then the counts."""
    flawed = [record for record in found.files if record.reason is not None]
    for record in flawed[:MAX_NAMED]:
        warn(f"{printable(record.file)}: {record.state}: {record.reason}")
    if len(flawed) > MAX_NAMED:
        warn(
            f"and {len(flawed) - MAX_NAMED} more files; see cavsync.files in the metadata of the Parquet file."
        )
    summary = _summary(found)
    states = ", ".join(f"{count} {state}" for state, count in dict(summary["states"]).items())  # type: ignore[call-overload]
    typer.echo(
        f"{summary['windows']:,} windows of {summary['files']:,} files ({states}): {summary['with_audio']:,} with audio, "
        f"{summary['with_image']:,} with an image. Written to {found.path}."
    )
