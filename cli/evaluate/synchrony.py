"""`cavsync eval synchrony`: on the clips of a split, or on one video."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.model_options import ModelOptions
from cavsync.cli.console.options import JsonOption, with_options
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.console.score_table import print_report
from cavsync.cli.evaluate.options import DatasetOption, report_option

if TYPE_CHECKING:
    from cavsync.train.evaluation.synchrony.config import SynchronyConfig

DEFAULT_SPLIT = "test"


@with_options
def synchrony(
    model: ModelOptions,
    data: DatasetOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the dataset: train, test, or the name of one.", show_default=DEFAULT_SPLIT
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            help="Measure how late the audio of this file is, instead of scoring a dataset.",
            show_default=False,
        ),
    ] = None,
    max_offset: Annotated[
        float, typer.Option(min=0.1, help="Largest offset of the audio, in seconds, either way.")
    ] = 5.0,
    step: Annotated[
        float, typer.Option(min=0.01, help="Seconds between the starts of audio segments.")
    ] = 0.1,
    frames_per_s: Annotated[
        float, typer.Option(min=0.1, max=25, help="Frames per second that are taken of the file of --video.")
    ] = 2.0,
    min_agreement: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Smallest agreement with which a delay is reported: how far the frames have one delay in common, from 0 to 1.",
        ),
    ] = 0.8,
    out: Annotated[
        Path | None, report_option("synchrony-SPLIT or synchrony-VIDEO beside the weights")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score which audio belongs to which instant: matching inside clips, delays, and shifted audio."""
    if video is not None and (data is not None or split is not None):
        raise typer.BadParameter("--video takes one file; leave out --data and --split.")
    from cavsync.train.evaluation.synchrony.config import SynchronyConfig

    config = SynchronyConfig(max_offset_s=max_offset, step_s=step, min_agreement=min_agreement)
    if video is not None:
        _video(model, video, config, frames_per_s, out, as_json)
    else:
        _split(model, data, split or DEFAULT_SPLIT, config, out, as_json)


def _split(
    model: ModelOptions,
    data: Path | None,
    split: str,
    config: "SynchronyConfig",
    out: Path | None,
    as_json: bool,
) -> None:
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.synchrony.protocol import score_synchrony
    from cavsync.train.evaluation.synchrony.report import synchrony_result
    from cavsync.train.evaluation.task import SplitTask
    from cavsync.train.evaluation.tracked import track_report
    from cavsync.train.reporting.record import PAGE_NAME, write_evaluation

    task = SplitTask.of(model.load(), data, split)
    inputs = command_inputs(
        "eval synchrony", task.checkpoint, task.data.path, task.dataset.paths.summary, split=split
    )
    folder = results_folder(out, task.weights.parent / f"synchrony-{split}", PAGE_NAME, inputs)
    with counting("embedding", "clips", quiet=as_json) as on_clip:
        scores = score_synchrony(task, config, on_clip)
    result = synchrony_result(scores)
    record = write_evaluation(result, folder, inputs)
    track_report(record, folder.name)
    title = f"Synchrony: {scores.coverage.sentence}"
    print_report(title, result.scores, record, folder, as_json=as_json)


def _video(
    model: ModelOptions,
    video: Path,
    config: "SynchronyConfig",
    frames_per_s: float,
    out: Path | None,
    as_json: bool,
) -> None:
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.synchrony.video import score_video
    from cavsync.train.evaluation.synchrony.video_report import video_synchrony_result
    from cavsync.train.reporting.record import PAGE_NAME, write_evaluation

    checkpoint = model.load()
    inputs = command_inputs("eval synchrony", checkpoint)
    folder = results_folder(out, checkpoint.weights.parent / f"synchrony-{video.stem}", PAGE_NAME, inputs)
    with (
        counting("decoding", "s", quiet=as_json) as on_second,
        counting("embedding", "windows", quiet=as_json) as on_window,
    ):
        found = score_video(checkpoint, video, config, frames_per_s, on_second, on_window)
    record = write_evaluation(video_synchrony_result(found), folder, inputs)
    if as_json:
        typer.echo(json.dumps(record))
        return
    typer.echo(found.sentence)
    typer.echo(f"Report: {folder / 'report.html'}")
