"""`cavsync eval localization`: the heatmap of each clip's own audio in its image, against boxes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.train.choices import Geometry, MapMethod
from cavsync.train.embedding.encode import require_finite
from cavsync.train.evaluation.heatmaps.audio_prompt import PromptReader
from cavsync.train.evaluation.heatmaps.baselines import centred_disc
from cavsync.train.evaluation.heatmaps.heatmap import (
    AudioFeatures,
    EncodedAudio,
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
from cavsync.train.evaluation.heatmaps.overlap import ciou
from cavsync.train.evaluation.heatmaps.task import MapTask
from cavsync.train.evaluation.localization.boxes import SIDE, BoxRow, BoxSet
from cavsync.train.evaluation.localization.media import BoxMedia
from cavsync.train.evaluation.localization.metrics import (
    Localization,
    SourceDetection,
    adaptive,
    confidence,
    detect,
    localize,
    top,
    upper_half,
)
from cavsync.train.reporting.coverage import Coverage, Unusable

CEILING, DISC, ONES = "perfect map", "centred disc", "every pixel"
EXAMPLES = 8


@dataclass(frozen=True)
class LocalizationMethodScores:
    published: Localization  # always half of the pixels
    adaptive: Localization | None  # as many pixels as the boxes cover; None where that is no choice
    # None without non-sounding rows, and for maps that do not depend on the audio.
    detection: SourceDetection | None


@dataclass(frozen=True)
class LocalizationExample:
    """A row that the page shows."""

    row: BoxRow
    image: np.ndarray  # (side, side, 3) uint8
    truth: np.ndarray  # (224, 224)
    maps: dict[str, np.ndarray]  # map method -> (224, 224)
    cious: dict[str, float]


@dataclass(frozen=True)
class LocalizationScores:
    task: MapTask
    geometry: Geometry
    data: BoxSet
    coverage: Coverage
    annotation_issues: dict[str, int]
    num_negatives: int
    negative_audio: dict[str, NegativeAudioScores]  # of each map method
    methods: dict[
        str, LocalizationMethodScores
    ]  # the map methods in their order, then the maps that need no model
    examples: list[LocalizationExample]


@dataclass
class _Tally:
    """Row by row, of one method."""

    half: list[float] = field(default_factory=list)
    adaptive: list[float] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)


def score_localization(
    task: MapTask,
    data: BoxSet,
    geometry: Geometry,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> LocalizationScores:
    """Maps and scores every usable row; raises CavsyncError on what the user can fix."""
    heatmap_model, reader = task.heatmap_model()
    with DecoderProcess() as decoder:
        media = BoxMedia(data.root, heatmap_model.model.config.image_size, geometry, decoder)
        absent = {row: reason for row in data.rows if (reason := media.missing(row))}
        missing = [Unusable(row.title, "missing", reason) for row, reason in absent.items()]
        Coverage(len(data.rows), tuple(missing)).require(task.max_missing)
        scored = _Scoring(task, data, heatmap_model, reader, media)
        scored.unusable += missing
        for number, row in enumerate(data.rows):
            if row not in absent:
                scored.add(number)
            on_row(number + 1, len(data.rows))
    return scored.result()


def reference_rows(rows: list[BoxRow], data: BoxSet, strict: bool) -> dict[str, LocalizationMethodScores]:
    """Scores of maps that use neither image nor audio, and of a perfect map."""
    sounding = [row for row in rows if row.boxes]
    images = [row.image for row in sounding]
    disc, everything = centred_disc(SIDE).numpy(), np.ones((SIDE, SIDE), bool)
    half_disc = upper_half(disc, strict)
    tallies = {name: _Tally() for name in (CEILING, DISC, ONES)}
    for row in sounding:
        truth = data.truth(row)
        tallies[CEILING].half.append(ciou(top(truth, truth.size // 2), truth))
        tallies[CEILING].adaptive.append(adaptive(truth, truth))
        tallies[DISC].half.append(ciou(half_disc, truth))
        tallies[DISC].adaptive.append(adaptive(disc, truth))
        tallies[ONES].half.append(ciou(everything, truth))
    return {
        name: LocalizationMethodScores(
            localize(np.array(tally.half), images),
            localize(np.array(tally.adaptive), images) if tally.adaptive else None,
            None,
        )
        for name, tally in tallies.items()
    }


class _Scoring:
    """One pass over the rows; keeps three numbers of each, and the maps of the examples."""

    def __init__(
        self, task: MapTask, data: BoxSet, heatmap_model: HeatmapModel, reader: PromptReader, media: BoxMedia
    ) -> None:
        self.task, self.data, self.media = task, data, media
        self.heatmap_model, self.reader = heatmap_model, reader
        self.strict = media.geometry == "lvs"
        self.rows: list[BoxRow] = []
        self.unusable: list[Unusable] = []
        self.tallies = {method: _Tally() for method in task.methods}
        self.maps = {method: PromptedMaps() for method in task.methods}
        self.negative_audio = NegativeAudio.encode(heatmap_model, reader, len(data.rows), task.seed)
        self._audio = EncodedAudio(heatmap_model)
        self.examples: list[LocalizationExample] = []
        self._last: tuple[str, Tensor, dict[MapMethod, ImageFeatures]] | None = None
        sounding = [row for row in data.rows if row.boxes]
        drawn = np.random.default_rng(task.seed).permutation(len(sounding))[:EXAMPLES]
        self._shown = {sounding[index] for index in drawn}

    def add(self, number: int) -> None:
        row = self.data.rows[number]
        try:
            image, image_features = self._encode_image(row)
            audio = self._encode_audio(row)
        except (RowError, MediaError) as error:
            self.unusable.append(Unusable(row.title, str(error.state), str(error)))
            return
        truth = self.data.truth(row)
        negatives = self._negatives(number) if row.boxes else {}
        maps: dict[str, np.ndarray] = {}
        cious: dict[str, float] = {}
        for method, tally in self.tallies.items():
            heatmap = image_features[method].heatmap(audio)
            require_finite(heatmap.cells, f"map {method} of {row.title}")
            maps[method] = upsampled(heatmap.cells, SIDE)
            cious[method] = ciou(upper_half(maps[method], self.strict), truth)
            tally.half.append(cious[method])
            tally.adaptive.append(adaptive(maps[method], truth))
            tally.confidence.append(heatmap.level + confidence(maps[method]))
            if row.boxes:
                self.maps[method].add(image_features[method], heatmap, negatives, row.title)
        self.rows.append(row)
        if row in self._shown:
            self.examples.append(LocalizationExample(row, image.numpy(), truth, dict(maps), dict(cious)))

    def _negatives(self, number: int) -> dict[str, AudioFeatures]:
        rows = self.data.rows
        return self.negative_audio.of(
            number,
            lambda other: self.data.is_foreign(rows[number], rows[other]),
            lambda other: self._encode_audio(rows[other]),
        )

    def _encode_audio(self, row: BoxRow) -> AudioFeatures:
        return self._audio.of(row.audio, lambda: self.media.audio(row, self.reader))

    def _encode_image(self, row: BoxRow) -> tuple[Tensor, dict[MapMethod, ImageFeatures]]:
        """Rows come sorted by image, so that each is encoded once for all its audio."""
        if self._last is None or self._last[0] != row.image:
            image = self.media.image(row)
            image_features = {
                method: self.heatmap_model.encode_image(image, method) for method in self.task.methods
            }
            self._last = row.image, image, image_features
        _, image, image_features = self._last
        return image, image_features

    def result(self) -> LocalizationScores:
        coverage = Coverage(len(self.data.rows), tuple(self.unusable))
        coverage.require(self.task.max_missing)
        methods: dict[str, LocalizationMethodScores] = {
            method: self._scores(tally) for method, tally in self.tallies.items()
        }
        return LocalizationScores(
            task=self.task,
            geometry=self.media.geometry,
            data=self.data,
            coverage=coverage,
            annotation_issues=self.data.annotation_issues(),
            num_negatives=sum(not row.boxes for row in self.rows),
            negative_audio=self._negative_figures(),
            methods={**methods, **reference_rows(self.rows, self.data, self.strict)},
            examples=self.examples,
        )

    def _negative_figures(self) -> dict[str, NegativeAudioScores]:
        sounding = [row for row in self.rows if row.boxes]
        return {
            method: measure_negatives(maps, lambda number: self.data.truth(sounding[number]), SIDE)
            for method, maps in self.maps.items()
        }

    def _scores(self, tally: _Tally) -> LocalizationMethodScores:
        sounding = np.array([bool(row.boxes) for row in self.rows])
        images = [row.image for row in self.rows if row.boxes]
        half, fitted = np.array(tally.half), np.array(tally.adaptive)
        negatives = not sounding.all()
        return LocalizationMethodScores(
            localize(half[sounding], images),
            localize(fitted[sounding], images),
            detect(np.array(tally.confidence), half, sounding) if negatives else None,
        )
