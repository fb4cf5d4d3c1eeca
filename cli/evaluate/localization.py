"""`cavsync eval localization`."""

from pathlib import Path
from typing import Annotated

import typer

from cavsync.cli.console.heatmap_options import (
    AudioFeaturesOption,
    HeatmapModelOptions,
    MapsOption,
    SimilarityOption,
)
from cavsync.cli.console.options import JsonOption, with_options
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.evaluate.options import MaxMissingOption, WindowsOption, report_option
from cavsync.cli.evaluate.output import publish
from cavsync.train.choices import Geometry


@with_options
def localization(
    model: HeatmapModelOptions,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of VGG-SS or Flickr-SoundNet.", show_default="ROOT/raw/vggss"),
    ] = None,
    subset: Annotated[
        Path | None,
        typer.Option(
            "--list",
            help="CSV file whose first column names the clips to score, such as VGG-SS's heard classes.",
        ),
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(help='CSV file of IMAGE,AUDIO,"non-sounding" rows (the extended sets).')
    ] = None,
    geometry: Annotated[
        Geometry, typer.Option(help="ez-vsl squeezes each image into a square; lvs crops its centre.")
    ] = "ez-vsl",
    maps: MapsOption = ["denseav"],  # noqa: B006 (Typer copies it)
    audio_features: AudioFeaturesOption = "tokens",
    similarity: SimilarityOption = "cosine",
    windows: WindowsOption = "one",
    max_missing: MaxMissingOption = 0.05,
    out: Annotated[Path | None, report_option("localization-DATA beside the weights")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score heatmaps of sounding objects against boxes (VGG-SS, Flickr-SoundNet)."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.heatmaps.heatmap import MapConfig
    from cavsync.train.evaluation.heatmaps.task import MapTask
    from cavsync.train.evaluation.localization.boxes import BoxSet
    from cavsync.train.evaluation.localization.protocol import score_localization
    from cavsync.train.evaluation.localization.report import localization_result
    from cavsync.train.reporting.record import PAGE_NAME

    config = MapConfig(audio_features=audio_features, similarity=similarity)
    task = MapTask.of(model.load(), maps, config, windows, max_missing)
    folder = data or model.root / "raw" / "vggss"
    boxes = BoxSet.open(folder, subset, negatives)
    inputs = command_inputs("eval localization", task.checkpoint, folder, boxes.source)
    out = results_folder(
        out, task.weights.parent / f"localization-{folder.resolve().name}", PAGE_NAME, inputs
    )
    with counting("heatmaps", "rows", quiet=as_json) as on_row:
        scores = score_localization(task, boxes, geometry, on_row)
    result = localization_result(scores)
    title = f"Localisation on {boxes.benchmark}: {scores.coverage.sentence}"
    publish(result, out, inputs, title, as_json=as_json, notes=result.results["findings"])
