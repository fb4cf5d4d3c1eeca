"""`cavsync eval synchrony`: on the clips of a split, on one video, or on a list of pairs of files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.model_options import ModelOptions
from cavsync.cli.console.options import JsonOption, with_options
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.evaluate.options import DatasetOption, report_option
from cavsync.cli.evaluate.output import publish

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
    pairwise: Annotated[
        bool,
        typer.Option(
            "--pairwise",
            help="Also ask whether each clip's audio scores above the same audio moved by 50 to 500 ms, jittered, at another "
            "speed, and filtered (AV-SyncBench's rule); takes several times as long.",
        ),
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Apply AV-SyncBench's rule to the files of this list: its JSON Lines, or a CSV of "
            "original,perturbed,negative,amount.",
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
        float,
        typer.Option(
            min=0.1, max=25, help="Frames per second that are taken of the files of --video and --manifest."
        ),
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
        Path | None, report_option("synchrony-SPLIT, synchrony-VIDEO or synchrony-LIST beside the weights")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score which audio belongs to which instant: matching inside clips, delays, and shifted audio."""
    if video is not None and (data is not None or split is not None):
        raise typer.BadParameter("--video takes one file; leave out --data and --split.")
    if manifest is not None and (video is not None or data is not None or split is not None or pairwise):
        raise typer.BadParameter(
            "--manifest lists its own files and pairs; leave out --video, --data, --split and --pairwise."
        )
    if video is not None and pairwise:
        raise typer.BadParameter(
            "--pairwise perturbs the clips of a split; for files, list pairs with --manifest."
        )
    from cavsync.train.evaluation.synchrony.config import SynchronyConfig

    config = SynchronyConfig(
        max_offset_s=max_offset, step_s=step, min_agreement=min_agreement, pairwise=pairwise
    )
    if manifest is not None:
        _manifest(model, manifest, config, frames_per_s, out, as_json)
    elif video is not None:
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
    from cavsync.train.reporting.record import PAGE_NAME

    task = SplitTask.of(model.load(), data, split)
    inputs = command_inputs(
        "eval synchrony", task.checkpoint, task.data.one_path, task.dataset.paths.summary, split=split
    )
    folder = results_folder(out, task.weights.parent / f"synchrony-{split}", PAGE_NAME, inputs)
    with counting("embedding", "clips", quiet=as_json) as on_clip:
        scores = score_synchrony(task, config, on_clip)
    result = synchrony_result(scores)
    title = f"Synchrony: {scores.coverage.sentence}"
    publish(result, folder, inputs, title, as_json=as_json)


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


def _manifest(
    model: ModelOptions,
    manifest: Path,
    config: "SynchronyConfig",
    frames_per_s: float,
    out: Path | None,
    as_json: bool,
) -> None:
    from dataclasses import replace

    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.synchrony.perturbed.listed import score_listed_pairs
    from cavsync.train.evaluation.synchrony.perturbed.report import listed_pairs_result
    from cavsync.train.reporting.record import PAGE_NAME

    checkpoint = model.load()
    # Published alignment goes by the numbers of a clip's 16 frames, which a file does not have.
    encoder = config.window_encoder(checkpoint, replace(checkpoint.inputs, alignment="time"))
    inputs = command_inputs("eval synchrony", checkpoint, manifest, manifest)
    folder = results_folder(out, checkpoint.weights.parent / f"synchrony-{manifest.stem}", PAGE_NAME, inputs)
    with counting("comparing", "pairs", quiet=as_json) as on_pair:
        scores = score_listed_pairs(manifest, checkpoint, encoder, frames_per_s, on_pair)
    result = listed_pairs_result(scores)
    title = f"Own audio against perturbed: {scores.coverage.sentence}"
    publish(result, folder, inputs, title, as_json=as_json)
