"""`cavsync embed`: videos of one's own to embeddings with times."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.overrides import OverridesOption, given_fields
from cavsync.cli.evaluate.options import CheckpointOption, DeviceOption, RootOption

if TYPE_CHECKING:
    from cavsync.train.embedding.window_file import FileRecord, WindowFile

# So many files that are not whole are named; all are in the Parquet file's metadata.
MAX_NAMED = 10


def embed(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO|FOLDER|LIST", help="A file, a folder of files, or a .txt with a path in each line."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The Parquet file to write, such as x.parquet.")],
    checkpoint: CheckpointOption = None,
    step: Annotated[
        float | None,
        typer.Option(min=0.01, help="Seconds from window to window.", show_default="half a window"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Files at a time; more than 1 run as Ray tasks.")] = 1,
    ray_address: Annotated[
        str | None, typer.Option(help="Join this Ray cluster, e.g. auto.", show_default=False)
    ] = None,
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line a file, and one at the end.")
    ] = False,
) -> None:
    """Embed videos and sounds of any length: a vector of the sound and one of the picture for every window, with times.

    A file that is muted, has no pictures or is damaged gives what it has, and a warning. Interrupted, the same command continues.
    """
    from cavsync.cli.console.progress import bar
    from cavsync.pipeline.jobs.work import Workers
    from cavsync.train.data.inputs import find_weights, newest_run
    from cavsync.train.embedding.files import EmbedderSpec, embed_files
    from cavsync.train.inference.media_files import list_files

    files = list_files(source)
    weights = find_weights(checkpoint or newest_run(root / "runs")).absolute()
    opening = EmbedderSpec(
        weights=weights, step_s=step, device=device, fields=tuple(given_fields(overrides).items())
    )
    with bar("files", quiet=as_json) as progress:
        task = progress.add_task("embedding", total=len(files), note="")

        def on_file(record: "FileRecord", done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, note="")
            if as_json:
                typer.echo(json.dumps({name: getattr(record, name) for name in record.__dataclass_fields__}))

        def on_second(done: int, total: int) -> None:
            progress.update(task, note=f"{done} of {total} s of the file in work")

        found = embed_files(
            files,
            opening,
            out,
            Workers(workers, ray_address),
            on_file,
            on_second,
            lambda line: typer.echo(line, err=True),
        )
    if as_json:
        typer.echo(json.dumps(_summary(found)))
    else:
        _say(found)
    if found.num_windows == 0:
        typer.secho("Error: no file gave a window.", fg=typer.colors.RED, err=True)
        raise typer.Exit(1)


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


def _say(found: "WindowFile") -> None:
    """A warning for each file that is not whole, then the counts."""
    flawed = [record for record in found.files if record.reason is not None]
    for record in flawed[:MAX_NAMED]:
        typer.secho(
            f"Warning: {record.file}: {record.state}: {record.reason}", fg=typer.colors.YELLOW, err=True
        )
    if len(flawed) > MAX_NAMED:
        typer.secho(
            f"Warning: and {len(flawed) - MAX_NAMED} files more; see cavsync.files in the metadata.", err=True
        )
    summary = _summary(found)
    states = ", ".join(f"{count} {state}" for state, count in dict(summary["states"]).items())  # type: ignore[call-overload]
    typer.echo(
        f"{summary['windows']:,} windows of {summary['files']:,} files ({states}): {summary['with_audio']:,} with sound, "
        f"{summary['with_image']:,} with a picture. Written to {found.path}."
    )
