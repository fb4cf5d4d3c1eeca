"""Scores of negative audio: maps of the right sound against those of silence, noise and another clip's sound.

Two thresholds are the same for all images. One is fixed with the right sounds alone; what it lights with a negative is a false
positive. The other is universal: the third quartile of the greatest values of all negatives' maps. Its figures are those
of Juanola et al., A Critical Assessment of Visual Sound Source Localization Models Including Negative Audio (ICASSP 2025).
Axis words: R images, K negatives, T thresholds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.heatmaps.heatmap import upsampled
from cavsync.train.evaluation.heatmaps.negative_audio import PromptedMaps
from cavsync.train.evaluation.heatmaps.overlap import (
    areas_under_rejection,
    areas_under_success,
    cious_above,
)
from cavsync.train.evaluation.intervals import jackknife_error
from cavsync.train.evaluation.statistics import TIE_TOLERANCE, mean, mean_percent, of_fraction, proportion
from cavsync.train.reporting.estimate import Estimate

NUM_THRESHOLDS = 20
UNIVERSAL_QUANTILE = 0.75
# Maps whose cells correlate this well with those of the right sound count as the same map. Our choice.
SAME_MAP = 0.8
# Of fewer images, even where all have lower maps, the interval of "lower" reaches below 50 %; its value decides.
MIN_IMAGES = 6

Truth = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class NegativeFigures:
    """One negative on all images that have it."""

    num_images: int
    area: Estimate
    """pIA: mean fraction of the image above the threshold fixed with the right sounds; by chance what those light."""
    lit: Estimate  # fraction of images with any pixel above it
    lower: Estimate  # fraction of images whose greatest value is below that of the right sound; a tie is not
    correlation: Estimate  # of its cells with those of the right sound, mean over images
    universal_area: Estimate  # pIA at the universal threshold
    auc_n: Estimate
    """Area under the fraction of images of which that threshold lights at most 0, 0.05, ..., 1."""

    @property
    def is_followed(self) -> bool:
        """Whether the maps change with this audio: lower in clearly more than half of the images, or elsewhere."""
        assert self.lower.low is not None
        bound = self.lower.low if self.num_images >= MIN_IMAGES else self.lower.value
        return bound > 50 or self.correlation.value < SAME_MAP


@dataclass(frozen=True)
class NegativeAudioScores:
    """One map method."""

    threshold: float  # of 20 from the least to the greatest value of the right sounds, that of their greatest mean cIoU
    right_area: Estimate
    right_ciou: Estimate  # mean cIoU of the right sounds there
    universal_threshold: float
    universal_ciou: Estimate
    universal_auc: Estimate
    f_loc: Estimate  # harmonic mean of mean cIoU and the fraction that negatives leave dark
    f_auc: Estimate  # harmonic mean of AUC and AUC_N
    negatives: dict[str, NegativeFigures]

    @property
    def ignored(self) -> tuple[str, ...]:
        """The negatives whose maps look like those of the right sound."""
        return tuple(name for name, one in self.negatives.items() if not one.is_followed)


def measure_negatives(maps: PromptedMaps, truth: Truth, side: int) -> NegativeAudioScores:
    """`truth` gives the (side, side) truth of an image in 0-1 by its number."""
    threshold = _best_threshold(maps, truth, side)
    universal = float(np.quantile(_greatest(maps, side), UNIVERSAL_QUANTILE))
    cious, right_areas = _of_right(maps, truth, side, np.array([threshold, universal]))
    scale = max(float(np.abs(one).max()) for one in maps.right)
    measured = {
        name: _negative(maps.right, negative, side, (threshold, universal), float(right_areas.mean()), scale)
        for name, negative in maps.negatives.items()
        if any(one is not None for one in negative)
    }
    areas = np.array([universal_areas for _, universal_areas in measured.values()])  # (K, R)
    successes = areas_under_success(cious[:, 1])
    rejections = np.array([areas_under_rejection(one) for one in areas])
    return NegativeAudioScores(
        threshold=threshold,
        right_area=mean_percent(right_areas),
        right_ciou=mean_percent(cious[:, 0]),
        universal_threshold=universal,
        universal_ciou=mean_percent(cious[:, 1]),
        universal_auc=mean_percent(successes),
        f_loc=harmonic(cious[:, 1], 1 - areas),
        f_auc=harmonic(successes, np.where(np.isfinite(areas), rejections, np.nan)),
        negatives={name: figures for name, (figures, _) in measured.items()},
    )


def harmonic(right: np.ndarray, negatives: np.ndarray) -> Estimate:
    """Harmonic mean, in %, of the mean of (R,) and the mean of the means of (K, R), NaN where an image has no negative."""
    number = len(right)
    sums, counts = np.nansum(negatives, axis=1), np.isfinite(negatives).sum(axis=1)  # (K,)
    value = float(_harmonic(right.mean(), (sums / counts).mean()))
    error = np.nan
    if number > 1:
        fewer = np.maximum(counts[:, None] - np.isfinite(negatives), 1)
        without = (sums[:, None] - np.nan_to_num(negatives)) / fewer  # (K, R)
        without_right = (right.sum() - right) / (number - 1)
        error = jackknife_error(_harmonic(without_right, without.mean(axis=0)))
    return of_fraction(value, error, number, number - 1).in_percent()


def _harmonic(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Elementwise; 0 where both are 0."""
    result: np.ndarray = 2 * one * other / np.maximum(one + other, 1e-12)
    return result


def _best_threshold(maps: PromptedMaps, truth: Truth, side: int) -> float:
    low = min(float(one.min()) for one in maps.right)
    high = max(float(one.max()) for one in maps.right)
    thresholds = np.linspace(low, high, NUM_THRESHOLDS)
    cious, _ = _of_right(maps, truth, side, thresholds)
    return float(thresholds[cious.mean(axis=0).argmax()])


def _of_right(
    maps: PromptedMaps, truth: Truth, side: int, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, T) cIoU of the right sounds above each of T thresholds, and the (R,) areas above the first."""
    order = np.argsort(thresholds)
    cious, areas = np.empty((len(maps.right), len(thresholds))), np.empty(len(maps.right))
    for number, cells in enumerate(maps.right):
        pixels = upsampled(cells, side)
        cious[number, order] = cious_above(pixels, truth(number), thresholds[order])
        areas[number] = (pixels > thresholds[0]).mean()
    return cious, areas


def _greatest(maps: PromptedMaps, side: int) -> np.ndarray:
    """Of every map of a negative."""
    negatives = (one for of_kind in maps.negatives.values() for one in of_kind if one is not None)
    return np.array([upsampled(one, side).max() for one in negatives])


def _negative(
    right: list[np.ndarray],
    negatives: list[np.ndarray | None],
    side: int,
    thresholds: tuple[float, float],
    right_area: float,
    scale: float,
) -> tuple[NegativeFigures, np.ndarray]:
    """The figures of one negative, and (R,) areas above the universal threshold, NaN without a map."""
    pairs = [(own, other) for own, other in zip(right, negatives, strict=True) if other is not None]
    areas = np.array([[(upsampled(other, side) > one).mean() for one in thresholds] for _, other in pairs])
    lower = np.array([own.max() > other.max() + TIE_TOLERANCE * scale for own, other in pairs])
    figures = NegativeFigures(
        num_images=len(pairs),
        area=mean_percent(areas[:, 0], 100 * right_area),
        lit=proportion(areas[:, 0] > 0),
        lower=proportion(lower, 50.0),
        correlation=mean(np.array([correlation(own, other) for own, other in pairs])),
        universal_area=mean_percent(areas[:, 1]),
        auc_n=mean_percent(areas_under_rejection(areas[:, 1])),
    )
    every = np.full(len(right), np.nan)
    every[[one is not None for one in negatives]] = areas[:, 1]
    return figures, every


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, of two (rows, columns) maps. A map of one value has the same shape as another such, and no other."""
    deviations = [part - part.mean() for part in (one.astype(np.float64), other.astype(np.float64))]
    lengths = [float(np.sqrt((part**2).sum())) for part in deviations]
    if min(lengths) == 0:
        return float(max(lengths) == 0)
    return float((deviations[0] * deviations[1]).sum() / (lengths[0] * lengths[1]))
