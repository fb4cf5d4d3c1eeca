"""`cavsync eval segmentation` and `cavsync eval localization`: maps of where a sound comes from."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.score_table import print_report
from cavsync.cli.evaluate.options import CheckpointOption, DeviceOption, JsonOption, RootOption

if TYPE_CHECKING:
    from cavsync.train.evaluation.heatmaps.task import MapTask


class Map(StrEnum):
    """Routes to a map; masked-view is cavsync's own."""

    DENSEAV = "denseav"
    MASKED_VIEW = "masked-view"


class Sound(StrEnum):
    TOKENS = "tokens"
    MEAN = "mean"
    GLOBAL = "global"


class Similarity(StrEnum):
    DOT = "dot"
    COSINE = "cosine"


class Windows(StrEnum):
    MEAN = "mean"
    ONE = "one"


class Scaling(StrEnum):
    GLOBAL = "global"
    PER_IMAGE = "per-image"


class Geometry(StrEnum):
    EZ_VSL = "ez-vsl"
    LVS = "lvs"


MapsOption = Annotated[
    list[Map],
    typer.Option("--map", help="Route to the map; give it twice for both. masked-view is our method."),
]
SoundOption = Annotated[
    Sound, typer.Option(help="denseav compares patches with: each audio patch, their mean, or the embedding.")
]
SimilarityOption = Annotated[Similarity, typer.Option(help="Of the denseav route.")]
WindowsOption = Annotated[
    Windows, typer.Option(help="mean: windows that cover the sound; one: the window in its middle.")
]
MaxMissingOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the listed rows that may be left out; more is an error.")
]


def segmentation(
    checkpoint: CheckpointOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of ADE20K_Sound; by default ROOT/raw/ade20k_sound.", show_default=False),
    ] = None,
    maps: MapsOption = [Map.DENSEAV, Map.MASKED_VIEW],  # noqa: B006 (Typer copies it)
    sound: SoundOption = Sound.TOKENS,
    similarity: SimilarityOption = Similarity.DOT,
    windows: WindowsOption = Windows.MEAN,
    scaling: Annotated[
        Scaling, typer.Option(help="Maps to 0-1 by the extremes of all rows, or of each picture.")
    ] = Scaling.GLOBAL,
    max_missing: MaxMissingOption = 0.05,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; by default segmentation-DATA beside the weights.", show_default=False
        ),
    ] = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Find what a sound comes from in pictures with exact masks (ADE20K_Sound)."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.segmentation.protocol import score_segmentation
    from cavsync.train.evaluation.segmentation.report import segmentation_rows, write_segmentation

    task = _map_task(checkpoint, root, device, maps, sound, similarity, windows, max_missing)
    folder = data or root / "raw" / "ade20k_sound"
    with counting("mapping", "rows", quiet=as_json) as on_row:
        scores = score_segmentation(task, folder, scaling.value, on_row)
    out = out or task.weights.parent / f"segmentation-{folder.resolve().name}"
    record = write_segmentation(scores, out)
    title = f"Sound-prompted segmentation: {scores.coverage.sentence}"
    print_report(title, segmentation_rows(scores), record, out, as_json=as_json)


def localization(
    checkpoint: CheckpointOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of VGG-SS or Flickr-SoundNet; by default ROOT/raw/vggss.", show_default=False
        ),
    ] = None,
    subset: Annotated[
        Path | None,
        typer.Option(
            "--list", help="CSV whose first column names the clips to score, such as the heard ones."
        ),
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(help='CSV of PICTURE,SOUND,"non-sounding" rows (the extended sets).')
    ] = None,
    geometry: Annotated[
        Geometry, typer.Option(help="ez-vsl squeezes pictures into a square; lvs crops their centre.")
    ] = Geometry.EZ_VSL,
    maps: MapsOption = [Map.DENSEAV],  # noqa: B006 (Typer copies it)
    sound: SoundOption = Sound.TOKENS,
    similarity: SimilarityOption = Similarity.COSINE,
    windows: WindowsOption = Windows.ONE,
    max_missing: MaxMissingOption = 0.05,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; by default localization-DATA beside the weights.", show_default=False
        ),
    ] = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Find what a clip's own sound comes from, against boxes (VGG-SS, Flickr-SoundNet)."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.localization.boxes import BoxSet
    from cavsync.train.evaluation.localization.protocol import score_localization
    from cavsync.train.evaluation.localization.report import localization_rows, write_localization

    task = _map_task(checkpoint, root, device, maps, sound, similarity, windows, max_missing)
    folder = data or root / "raw" / "vggss"
    boxes = BoxSet.open(folder, subset, negatives)
    with counting("mapping", "rows", quiet=as_json) as on_row:
        scores = score_localization(task, boxes, geometry.value, on_row)
    out = out or task.weights.parent / f"localization-{folder.resolve().name}"
    record = write_localization(scores, out)
    title = f"Localisation on {boxes.benchmark}: {scores.coverage.sentence}"
    print_report(title, localization_rows(scores), record, out, as_json=as_json)


def _map_task(
    checkpoint: Path | None,
    root: Path,
    device: str,
    maps: list[Map],
    sound: Sound,
    similarity: Similarity,
    windows: Windows,
    max_missing: float,
) -> "MapTask":
    """What both commands ask of a checkpoint."""
    from cavsync.train.data.inputs import newest_run
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.evaluation.heatmaps.heatmap import MapConfig
    from cavsync.train.evaluation.heatmaps.task import MapTask

    config = MapConfig(sound=sound.value, similarity=similarity.value)
    loaded = LoadedCheckpoint.load(checkpoint or newest_run(root / "runs"), device)
    return MapTask.of(loaded, [route.value for route in maps], config, windows.value, max_missing)
