"""`cavsync eval segmentation`: the heatmap of every audio prompt in its image, by every method, against the mask."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.train.choices import Scaling
from cavsync.train.embedding.encode import require_finite
from cavsync.train.evaluation.heatmaps.audio_prompt import PromptReader
from cavsync.train.evaluation.heatmaps.baselines import centred_disc, colour_saliency, constant
from cavsync.train.evaluation.heatmaps.heatmap import (
    AudioFeatures,
    EncodedAudio,
    Heatmap,
    HeatmapModel,
    ImageFeatures,
    upsampled,
)
from cavsync.train.evaluation.heatmaps.image_files import RowError
from cavsync.train.evaluation.heatmaps.negative_audio import (
    NegativeAudio,
    PromptedMaps,
)
from cavsync.train.evaluation.heatmaps.negative_figures import NegativeAudioScores, measure_negatives
from cavsync.train.evaluation.heatmaps.task import MapTask
from cavsync.train.evaluation.segmentation.dataset import PromptedRow, PromptedSet
from cavsync.train.evaluation.segmentation.metrics import Segmentation, segment
from cavsync.train.evaluation.segmentation.object_choice import Selection, choose, summarise
from cavsync.train.reporting.coverage import Coverage, Unusable

OnRow = Callable[[int, int], None]

CONSTANT, DISC, SALIENCY = "constant map", "centred disc", "colour saliency"
BASELINES = (SALIENCY, DISC, CONSTANT)


@dataclass(frozen=True)
class MappedRow:
    """A prompt, its image, the class of each pixel, and a map by every method."""

    row: PromptedRow
    image: np.ndarray  # (side, side, 3) uint8
    ids: np.ndarray  # (side, side) int32
    cells: dict[str, Tensor]  # method -> (rows, columns) map, of any size

    @property
    def truth(self) -> np.ndarray:
        """(side, side) bool: the pixels of the prompted class."""
        mask: np.ndarray = self.ids == self.row.class_id
        return mask


@dataclass(frozen=True)
class SegmentationMethodScores:
    """One method on all rows."""

    segmentation: Segmentation
    selection: Selection | None


@dataclass(frozen=True)
class SegmentationScores:
    task: MapTask
    scaling: Scaling
    data: PromptedSet
    coverage: Coverage
    rows: list[MappedRow]
    methods: dict[str, SegmentationMethodScores]  # the map methods in their order, then the baselines
    negative_audio: dict[str, NegativeAudioScores]  # of each map method; empty where no image shows its class

    @property
    def num_outside(self) -> int:
        """Rows whose class the centre crop leaves without a pixel."""
        return sum(not row.truth.any() for row in self.rows)


def score_segmentation(
    task: MapTask,
    data: Path,
    scaling: Scaling,
    on_row: OnRow = lambda done, total: None,
) -> SegmentationScores:
    """Maps and scores every usable row; raises CavsyncError on what the user can fix."""
    prompted = PromptedSet.open(data)
    missing = prompted.missing()
    Coverage(len(prompted.rows), missing).require(task.max_missing)
    with DecoderProcess() as decoder:
        mapping = _Mapping(task, prompted, decoder, *task.heatmap_model())
        rows, unusable = mapping.run(missing, on_row)
    coverage = Coverage(len(prompted.rows), unusable)
    coverage.require(task.max_missing)
    methods = {name: _score(rows, name, scaling) for name in (*task.methods, *BASELINES)}
    return SegmentationScores(task, scaling, prompted, coverage, rows, methods, mapping.negative_figures())


def scaled_maps(rows: list[MappedRow], method: str, scaling: Scaling) -> list[np.ndarray]:
    """The maps of a method in 0-1 at the masks' size, (side, side) each.

    "global" takes the least and the greatest value of all rows, so that all of an image may be low; "per-image" those
    of each image.
    """
    cells = [row.cells[method] for row in rows]
    if scaling == "per-image":
        spans = [(float(one.min()), float(one.max())) for one in cells]
    else:
        spans = [(min(float(one.min()) for one in cells), max(float(one.max()) for one in cells))] * len(
            cells
        )
    return [
        upsampled((one - low) / ((high - low) or 1.0), len(row.ids))
        for row, one, (low, high) in zip(rows, cells, spans, strict=True)
    ]


def _score(rows: list[MappedRow], method: str, scaling: Scaling) -> SegmentationMethodScores:
    maps = scaled_maps(rows, method, scaling)
    names, truths = [row.row.class_name for row in rows], [row.truth for row in rows]
    sounding = {row.row.class_id for row in rows}
    choices = [choose(one, row.ids, row.row.class_id, sounding) for one, row in zip(maps, rows, strict=True)]
    return SegmentationMethodScores(segment(names, maps, truths), summarise(choices))


@dataclass
class _Mapping:
    """One pass over the rows: each image and each audio file is encoded once."""

    task: MapTask
    data: PromptedSet
    decoder: DecoderProcess
    heatmap_model: HeatmapModel
    reader: PromptReader
    _truths: list[np.ndarray] = field(default_factory=list)  # of the rows whose class is in their image
    _image: str | None = None  # the image that `_image_features` belongs to; rows are sorted by image
    _pixels: tuple[Tensor, np.ndarray, Tensor] | None = None
    _image_features: dict[str, ImageFeatures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._audio = EncodedAudio(self.heatmap_model)
        self._maps: dict[str, PromptedMaps] = {method: PromptedMaps() for method in self.task.methods}
        self._negative_audio = NegativeAudio.encode(
            self.heatmap_model, self.reader, len(self.data.rows), self.task.seed
        )

    def run(
        self, missing: tuple[Unusable, ...], on_row: OnRow
    ) -> tuple[list[MappedRow], tuple[Unusable, ...]]:
        gone = {item.item for item in missing}
        mapped, unusable = [], list(missing)
        for number, row in enumerate(self.data.rows):
            if row.title not in gone:
                try:
                    mapped.append(self._map(number))
                except (RowError, MediaError) as error:
                    unusable.append(Unusable(row.title, str(error.state), str(error)))
            on_row(number + 1, len(self.data.rows))
        return mapped, tuple(unusable)

    def negative_figures(self) -> dict[str, NegativeAudioScores]:
        if not self._truths:
            return {}
        return {
            method: measure_negatives(maps, self._truths.__getitem__, len(self._truths[0]))
            for method, maps in self._maps.items()
        }

    def _map(self, number: int) -> MappedRow:
        row = self.data.rows[number]
        audio = self._encode_audio(row)
        self._encode_image(row)
        assert self._pixels is not None
        image, ids, saliency = self._pixels
        heatmaps = {name: features.heatmap(audio) for name, features in self._image_features.items()}
        cells = {name: heatmap.cells for name, heatmap in heatmaps.items()}
        for name, one in cells.items():
            require_finite(one, f"map {name} of {row.title}")
        if (ids == row.class_id).any():
            self._add_negatives(number, ids, heatmaps)
        side = len(ids)
        baselines = {CONSTANT: constant(side), DISC: centred_disc(side), SALIENCY: saliency}
        return MappedRow(row, image.numpy(), ids, cells | baselines)

    def _add_negatives(self, number: int, ids: np.ndarray, heatmaps: dict[str, Heatmap]) -> None:
        """Of the image with the class of each pixel `ids`, (side, side)."""
        rows, row, shown = self.data.rows, self.data.rows[number], set(np.unique(ids).tolist())
        negatives = self._negative_audio.of(
            number,
            lambda other: rows[other].class_id not in shown and rows[other].audio != row.audio,
            lambda other: self._encode_audio(rows[other]),
        )
        self._truths.append(ids == row.class_id)
        for name, features in self._image_features.items():
            self._maps[name].add(features, heatmaps[name], negatives, row.title)

    def _encode_audio(self, row: PromptedRow) -> AudioFeatures:
        return self._audio.of(row.audio, lambda: self.reader.read(self.data.audio(row), self.decoder))

    def _encode_image(self, row: PromptedRow) -> None:
        if row.image == self._image:
            return
        image, ids = self.data.view(row, self.heatmap_model.model.config.image_size)
        self._pixels = image, ids, colour_saliency(image.numpy())
        self._image_features = {
            method: self.heatmap_model.encode_image(image, method) for method in self.task.methods
        }
        self._image = row.image
