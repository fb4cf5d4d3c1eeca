"""`cavsync eval segmentation`."""

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
from cavsync.train.choices import Scaling


@with_options
def segmentation(
    model: HeatmapModelOptions,
    data: Annotated[
        Path | None, typer.Option(help="Folder of ADE20K_Sound.", show_default="ROOT/raw/ade20k_sound")
    ] = None,
    maps: MapsOption = ["denseav", "masked-view"],  # noqa: B006 (Typer copies it)
    audio_features: AudioFeaturesOption = "tokens",
    similarity: SimilarityOption = "dot",
    windows: WindowsOption = "mean",
    scaling: Annotated[
        Scaling, typer.Option(help="Scale heatmaps to [0, 1] by the extremes of all rows, or of each image.")
    ] = "global",
    max_missing: MaxMissingOption = 0.05,
    out: Annotated[Path | None, report_option("segmentation-DATA beside the weights")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score heatmaps of sounding objects against pixel masks (ADE20K_Sound)."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.heatmaps.heatmap import MapConfig
    from cavsync.train.evaluation.heatmaps.task import MapTask
    from cavsync.train.evaluation.segmentation.dataset import LIST_NAME, PUBLISHED_FOLDER
    from cavsync.train.evaluation.segmentation.protocol import score_segmentation
    from cavsync.train.evaluation.segmentation.report import segmentation_result
    from cavsync.train.reporting.record import PAGE_NAME

    config = MapConfig(audio_features=audio_features, similarity=similarity)
    task = MapTask.of(model.load(), maps, config, windows, max_missing)
    folder = data or model.root / "raw" / "ade20k_sound"
    listed = (root / LIST_NAME for root in (folder / PUBLISHED_FOLDER, folder))
    defined_by = next((path for path in listed if path.is_file()), None)
    inputs = command_inputs("eval segmentation", task.checkpoint, folder, defined_by)
    out = results_folder(
        out, task.weights.parent / f"segmentation-{folder.resolve().name}", PAGE_NAME, inputs
    )
    with counting("heatmaps", "rows", quiet=as_json) as on_row:
        scores = score_segmentation(task, folder, scaling, on_row)
    result = segmentation_result(scores)
    title = f"Audio-prompted segmentation: {scores.coverage.sentence}"
    publish(result, out, inputs, title, as_json=as_json, notes=result.results["findings"])
