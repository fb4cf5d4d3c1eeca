"""Sets of scored items, drawn again and again: what `benchmarks.coverage` tries intervals on.

Axis words: N clips, C classes, R rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from torch import from_numpy

from cavsync.train.evaluation.classification.estimates import classification_estimates
from cavsync.train.evaluation.classification.metrics import ClassFigures, Classification, chance, d_prime
from cavsync.train.evaluation.retrieval.metrics import retrieve
from cavsync.train.evaluation.segmentation.metrics import segment
from cavsync.train.evaluation.statistics import mean_percent
from cavsync.train.evaluation.synchrony.metrics import detect
from cavsync.train.reporting.estimate import Estimate

# Figures of one name and item are estimates of one value; figures of one name share a row of the table.
Drawn = Iterator[tuple[str, str, Estimate]]  # name, item, estimate
CLASS_SIZES = (1, 5, 10, 20)


@dataclass(frozen=True)
class Classified:
    """Clips and the class probabilities of a model whose classes are unequally hard, as clips are."""

    name: str
    num_clips: int
    num_classes: int
    positives: tuple[int, int] | None = None
    """Clips of the rarest and of the most frequent class, on average, in sets of several labels a clip; None: one label
    a clip, and as many clips of each class."""

    def draw(self, random: np.random.Generator) -> Drawn:
        truth = self._truth(random)
        ease = random.normal(1, 0.4, (self.num_clips, 1))
        logits = random.normal(size=truth.shape) + truth * self._skill * ease
        # What a clip shows beside its labels resembles some classes more than others.
        logits += 0.6 * random.normal(size=(self.num_clips, len(self._resemblance))) @ self._resemblance
        probabilities, names = 1 / (1 + np.exp(-logits)), [str(number) for number in range(self.num_classes)]
        figures, by_chance = scored(probabilities, truth, names), chance(truth, names)
        found = classification_estimates(figures, by_chance, probabilities, truth)
        yield f"{self.name}: mAP", "", found.mean_average_precision.in_percent()
        yield f"{self.name}: AUC", "", found.auc.in_percent()
        yield f"{self.name}: top-1 of clips", "", found.top1.in_percent()
        yield f"{self.name}: top-1 of classes", "", found.top1_macro.in_percent()
        for one, estimate in zip(figures.classes, found.average_precisions, strict=True):
            if estimate is not None and estimate.low is not None:
                size = f"{self.name}: AP, class of {_size(one.num_clips)} clips"
                yield size, one.name, estimate.in_percent()

    def _truth(self, random: np.random.Generator) -> np.ndarray:
        """(N, C) booleans."""
        if self.positives is None:
            classes = np.arange(self.num_clips) % self.num_classes
            return np.eye(self.num_classes, dtype=bool)[classes]
        rates = np.geomspace(*self.positives, self.num_classes) / self.num_clips
        truth: np.ndarray = random.random((self.num_clips, self.num_classes)) < rates
        return truth

    @cached_property
    def _skill(self) -> np.ndarray:
        """(C,) deviations by which the logits of a class's clips are higher."""
        return np.random.default_rng(0).permutation(np.linspace(0.3, 3.5, self.num_classes))

    @cached_property
    def _resemblance(self) -> np.ndarray:
        """(6, C)"""
        return np.random.default_rng(1).normal(0, 0.4, (6, self.num_classes))


def scored(probabilities: np.ndarray, truth: np.ndarray, names: list[str]) -> Classification:
    """What `classification` gives for (N, C) probabilities without equal ones and (N, C) truth, in a tenth of the time."""
    chosen, classes = probabilities.argmax(axis=1), []
    for number, name in enumerate(names):
        has = truth[np.argsort(-probabilities[:, number]), number]
        found, ranks = int(has.sum()), np.flatnonzero(has) + 1
        if not found:
            classes.append(ClassFigures(name, 0, None, None, None))
            continue
        beaten = len(has) - found - (ranks - np.arange(1, found + 1))
        classes.append(
            ClassFigures(
                name,
                found,
                average_precision=float((np.arange(1, found + 1) / ranks).mean()),
                auc=float(beaten.mean() / (len(has) - found)),
                recall=float((chosen[truth[:, number]] == number).mean()),
            )
        )
    defined = [one for one in classes if one.num_clips]
    precision, auc, macro = (
        float(np.mean([getattr(one, figure) for one in defined]))
        for figure in ("average_precision", "auc", "recall")
    )
    top1 = float(truth[np.arange(len(truth)), chosen].mean())
    return Classification(len(truth), precision, auc, d_prime(auc), top1, macro, tuple(classes))


def _size(number: int) -> str:
    for lower, upper in pairwise(CLASS_SIZES):
        if number <= upper:
            return f"{lower + 1} to {upper}"
    return f"more than {CLASS_SIZES[-1]}"


@dataclass(frozen=True)
class Segmented:
    """Rows of an image and a prompt; maps are better in some rows than in others."""

    num_classes: int = 20
    num_rows: int = 5  # a class
    side: int = 32

    def draw(self, random: np.random.Generator) -> Drawn:
        names, maps, truths = [], [], []
        for number in range(self.num_classes):
            for _ in range(self.num_rows):
                truth = self._disc(random)
                noise = random.normal(size=(4, 4)).repeat(self.side // 4, 0).repeat(self.side // 4, 1)
                map_ = random.normal(0.4 + number / self.num_classes, 0.5) * truth + 0.6 * noise
                names.append(str(number))
                truths.append(truth)
                maps.append(1 / (1 + np.exp(-map_ - 0.3 * random.normal(size=map_.shape))))
        found = segment(names, maps, truths)
        title = f"segmentation, {self.num_classes} classes of {self.num_rows} rows"
        for kind, label in (("ap", "AP"), ("iou", "IoU"), ("fixed_iou", "IoU at 0.5")):
            yield f"{title}: mean {label}", "", getattr(found, kind)
            for one in found.classes:
                yield f"{title}: {label} of a class", one.name, getattr(one, kind)

    def _disc(self, random: np.random.Generator) -> np.ndarray:
        """(side, side) bool: a disc somewhere, of some size."""
        y, x = np.mgrid[: self.side, : self.side] / self.side
        centre, radius = random.uniform(0.2, 0.8, 2), random.uniform(0.1, 0.35)
        disc: np.ndarray = np.hypot(y - centre[0], x - centre[1]) < radius
        return disc


@dataclass(frozen=True)
class Retrieved:
    """Clips that are queries and candidates at once; some are harder than others."""

    num_clips: int

    def draw(self, random: np.random.Generator) -> Drawn:
        content = random.normal(size=(self.num_clips, 1, 24))
        noise = random.gamma(2, 0.9, (self.num_clips, 1, 1))
        audio, image = (
            (content + noise * random.normal(size=content.shape)).astype(np.float32) for _ in range(2)
        )
        found = retrieve(from_numpy(audio), from_numpy(image), "diagonal-mean")
        for k, recall in found.audio_to_video.recalls.items():
            yield f"retrieval, {self.num_clips:,} clips: R@{k}", "", recall
        yield f"retrieval, {self.num_clips:,} clips: median rank", "", found.audio_to_video.median


@dataclass(frozen=True)
class Synchronised:
    """Clips whose 16 frames are matched within the clip, and whose audio is moved; clips are unequally easy."""

    num_clips: int
    rate: float  # of right frames

    def draw(self, random: np.random.Generator) -> Drawn:
        ease = random.beta(6 * self.rate, 6 * (1 - self.rate), self.num_clips)
        title = f"synchrony, {self.num_clips} clips"
        top1 = mean_percent(random.binomial(16, ease) / 16)
        yield f"{title}: frame → window, {self.rate:.0%} right", "", top1
        level = random.normal(size=(self.num_clips, 1))
        moved = [level + random.normal(shift, 1, (self.num_clips, 2)) for shift in (3 * self.rate, 0)]
        detected = detect(*moved)
        assert detected is not None
        yield f"{title}: AUC of moved audio, {self.rate:.0%}", "", detected.auc
