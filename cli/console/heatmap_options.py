"""Options of the commands that make heatmaps of where audio comes from."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from cavsync.cli.console.model_options import ModelOptions, PrecisionOption
from cavsync.train.choices import AudioFeatureKind, MapMethod, Similarity

if TYPE_CHECKING:
    MapName = MapMethod
else:
    # Typer takes a list of a Literal's values for an enumeration only.
    MapName = StrEnum("MapName", {name: name for name in get_args(MapMethod)})

MapsOption = Annotated[
    list[MapName],
    typer.Option(
        "--map",
        help="Method that makes the heatmaps; give the option twice for both. masked-view is cavsync's own.",
    ),
]
AudioFeaturesOption = Annotated[
    AudioFeatureKind,
    typer.Option(
        help="What denseav compares the image patches with: every audio patch (tokens), their mean (mean) or the "
        "audio embedding (global)."
    ),
]


@dataclass(frozen=True, kw_only=True)
class HeatmapModelOptions(ModelOptions):
    # bfloat16 moves figures of heatmaps by some points (docs/evaluating.md), and those of embeddings hardly.
    precision: PrecisionOption = "float32"


RepeatsOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="How often masked-view draws all patches into views: fewer take less time in proportion, for a noisier heatmap.",
    ),
]
SimilarityOption = Annotated[
    Similarity, typer.Option(help="Similarity of an image patch and audio features, for denseav.")
]
