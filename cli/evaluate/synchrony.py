"""`cavsync eval synchrony`: on the clips of a split, or on one video."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.score_table import print_report
from cavsync.cli.evaluate.options import CheckpointOption, DeviceOption, JsonOption, RootOption

if TYPE_CHECKING:
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.evaluation.synchrony.config import SynchronyConfig

DEFAULT_SPLIT = "test"


def synchrony(
    checkpoint: CheckpointOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared dataset; by default the one the run was trained on.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Role (train, test) or name of a split; by default test.", show_default=False),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Instead of a dataset: how late is the sound of this file?", show_default=False),
    ] = None,
    max_offset: Annotated[float, typer.Option(min=0.1, help="Seconds to look for, both ways.")] = 5.0,
    step: Annotated[float, typer.Option(min=0.01, help="Seconds from window to window.")] = 0.1,
    pictures_per_s: Annotated[
        float, typer.Option(min=0.1, max=25, help="How many pictures of a video to look at.")
    ] = 2.0,
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Below this agreement of the pictures no delay is told.")
    ] = 0.8,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; by default synchrony-SPLIT or synchrony-VIDEO beside the weights.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Find which sound belongs to which instant: matching inside clips, delays, and sound that was moved."""
    if video is not None and (data is not None or split is not None):
        raise typer.BadParameter("--video looks at one file; leave out --data and --split.")
    from cavsync.train.data.inputs import newest_run
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.evaluation.synchrony.config import SynchronyConfig

    config = SynchronyConfig(max_offset_s=max_offset, step_s=step, min_agreement=min_agreement)
    loaded = LoadedCheckpoint.load(checkpoint or newest_run(root / "runs"), device)
    if video is not None:
        _video(loaded, video, config, pictures_per_s, out, as_json)
    else:
        _split(loaded, data, split or DEFAULT_SPLIT, config, out, as_json)


def _split(
    checkpoint: "LoadedCheckpoint",
    data: Path | None,
    split: str,
    config: "SynchronyConfig",
    out: Path | None,
    as_json: bool,
) -> None:
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.synchrony.protocol import score_synchrony
    from cavsync.train.evaluation.synchrony.report import synchrony_rows, write_synchrony
    from cavsync.train.evaluation.task import SplitTask

    task = SplitTask.of(checkpoint, data, split)
    with counting("sliding", "clips", quiet=as_json) as on_clip:
        scores = score_synchrony(task, config, on_clip)
    folder = out or task.weights.parent / f"synchrony-{split}"
    record = write_synchrony(scores, folder)
    title = f"Synchrony: {scores.coverage.sentence}"
    print_report(title, synchrony_rows(scores), record, folder, as_json=as_json)


def _video(
    checkpoint: "LoadedCheckpoint",
    video: Path,
    config: "SynchronyConfig",
    pictures_per_s: float,
    out: Path | None,
    as_json: bool,
) -> None:
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.synchrony.video import score_video
    from cavsync.train.evaluation.synchrony.video_report import write_video_synchrony

    with (
        counting("decoding", "s", quiet=as_json) as on_second,
        counting("sliding", "windows", quiet=as_json) as on_window,
    ):
        found = score_video(checkpoint, video, config, pictures_per_s, on_second, on_window)
    folder = out or found.weights.parent / f"synchrony-{video.stem}"
    record = write_video_synchrony(found, folder)
    if as_json:
        typer.echo(json.dumps(record))
        return
    typer.echo(found.sentence)
    typer.echo(f"Report: {folder / 'report.html'}")
