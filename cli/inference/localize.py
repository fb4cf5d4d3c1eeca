"""`cavsync localize`: heatmaps of where in a video its audio comes from."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cavsync.cli.console.heatmap_options import (
    AudioFeaturesOption,
    HeatmapModelOptions,
    MapsOption,
    RepeatsOption,
    SimilarityOption,
)
from cavsync.cli.console.options import JsonOption, with_options
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.console.warning_lines import warn


@with_options
def localize(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video of any length.")],
    audio: Annotated[
        Path | None,
        typer.Option(
            help="Audio or video file whose audio to localize instead of the video's own.", show_default=False
        ),
    ] = None,
    *,
    model: HeatmapModelOptions,
    maps: MapsOption = ["masked-view"],  # noqa: B006 (Typer copies it)
    audio_features: AudioFeaturesOption = "tokens",
    similarity: SimilarityOption = "dot",
    repeats: RepeatsOption = 4,  # of QUICK
    step: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Seconds between heatmaps.", show_default="half the length of an audio segment"
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Prepared dataset, or file of `cavsync embed`, whose pairs of image and audio set the similarity above "
            "which the audio may come from the image; without --checkpoint, what embedded the file is taken.",
            show_default="the test clips of the run's dataset",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write.", show_default="localized-VIDEO in this folder")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show where in a video its audio comes from, or that nothing in it matches: an overlay video, images and arrays."""
    from cavsync.train.errors import EvaluationError

    for file in (video, audio):
        if file is not None and not file.exists():  # known before a model is loaded and calibrated
            raise EvaluationError(f"{file} cannot be used: it is not there.")
    from cavsync.cli.console.progress import counting
    from cavsync.train.embedding.embedder import Embedder
    from cavsync.train.embedding.windows.window_file import WindowFile
    from cavsync.train.evaluation.heatmaps.heatmap import QUICK
    from cavsync.train.inference.localize.calibration import calibrate as calibrate_by
    from cavsync.train.inference.localize.folder import write_localized
    from cavsync.train.inference.localize.localizer import localize as find
    from cavsync.train.inference.localize.report import OVERLAY, warnings_of
    from cavsync.train.reporting.record import PAGE_NAME

    embedded = None if calibrate is None or calibrate.is_dir() else WindowFile.open(calibrate)
    checkpoint = model.load(embedded)
    if embedded is not None and (note := embedded.other_precision(checkpoint.precision)):
        warn(f"{note}.")
    embedder = Embedder(checkpoint, step)
    inputs = command_inputs("localize", checkpoint)
    folder = results_folder(out, Path(f"localized-{video.stem}"), PAGE_NAME, inputs)
    config = replace(QUICK, audio_features=audio_features, similarity=similarity, repeats=repeats)
    with counting("calibrating", "clips", quiet=as_json) as on_clip:
        calibration = calibrate_by(embedder, calibrate, on_clip)
    with counting("heatmaps", "s", quiet=as_json) as on_second:
        found = find(embedder, video, audio, maps, config, calibration, on_second)
    with counting("overlay video", "s", quiet=as_json) as on_second:
        record = write_localized(found, folder, on_second, inputs)
    for line in warnings_of(found):
        warn(f"{line}.")
    if as_json:
        typer.echo(json.dumps(record))
        return
    typer.echo(found.sentence)
    typer.echo(f"Overlay video: {folder / OVERLAY}\nReport: {folder / PAGE_NAME}")
