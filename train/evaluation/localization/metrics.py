"""Heatmaps against boxes: cIoU and AUC as VGG-SS and Flickr-SoundNet publish them, and what those leave out.

The published rule always predicts half of the pixels. So even a perfect map fails on small things, and an empty
answer is not possible; `adaptive` and `detect` measure what that hides.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.heatmaps.overlap import area_under_success, ciou
from cavsync.train.evaluation.statistics import proportion
from cavsync.train.reporting.estimate import Estimate

SUCCESS = 0.5  # cIoU from which on an image counts


@dataclass(frozen=True)
class Localization:
    """One kind of map on all images; AUC and means in %."""

    ciou: Estimate  # fraction of images with a cIoU of 0.5 or more
    auc: float
    mean_ciou: float
    every_source: Estimate  # IIoU: fraction of images all of whose audio sources succeed


@dataclass(frozen=True)
class SourceDetection:
    """Audio whose source is in the image against audio whose source is not, in %."""

    ap: float
    max_f1: float


def upper_half(scores: np.ndarray, strict: bool) -> np.ndarray:
    """The pixels, bool like `scores`, above (`strict`) or from the middle value of the sorted scores on."""
    middle = scores.size // 2
    threshold = np.sort(scores, axis=None)[middle]
    chosen: np.ndarray = scores > threshold if strict else scores >= threshold
    return chosen


def top(scores: np.ndarray, num_pixels: int) -> np.ndarray:
    """Exactly `num_pixels` pixels, bool in the shape of `scores` (height, width): the highest; of equal ones the first in reading order."""
    values: np.ndarray = scores.ravel()
    if num_pixels == 0:
        return np.zeros(scores.shape, bool)
    least = np.sort(values)[-num_pixels]  # np.partition is ten times slower on maps of few values
    chosen: np.ndarray = values > least
    equal = np.flatnonzero(values == least)
    chosen[equal[: num_pixels - np.count_nonzero(chosen)]] = True
    return chosen.reshape(scores.shape)


def adaptive(scores: np.ndarray, truth: np.ndarray) -> float:
    """The cIoU when as many pixels of a (height, width) map are predicted as the truth covers."""
    return ciou(top(scores, int(np.count_nonzero(truth))), truth)


def localize(cious: np.ndarray, images: list[str]) -> Localization:
    """From the (R,) cIoU of each row and the names of the R images."""
    if not len(cious):
        raise EvaluationError("no row has a box: there is nothing to localise.")
    hits = success(cious)
    succeeds: dict[str, bool] = {}
    for image, hit in zip(images, hits, strict=True):
        succeeds[image] = succeeds.get(image, True) and bool(hit)
    return Localization(
        ciou=proportion(hits),
        auc=100 * area_under_success(cious),
        mean_ciou=100 * float(cious.mean()),
        every_source=proportion(np.array([*succeeds.values()])),
    )


def success(cious: np.ndarray) -> np.ndarray:
    """(R,) booleans."""
    return np.asarray(cious >= SUCCESS)


def confidence(scores: np.ndarray) -> float:
    """Mean of the highest quarter of the pixels of a (height, width) map, on its own scale."""
    quarter = scores.size // 4
    return float(np.sort(scores, axis=None)[-quarter:].mean())


def detect(confidences: np.ndarray, cious: np.ndarray, sounding: np.ndarray) -> SourceDetection:
    """SLAVC's rule, swept over every confidence; (R,) each. `cious` counts where `sounding`.

    At a cut: sounding rows from it on are right if their cIoU is 0.5 or more, else wrong; all other rows from it
    on are wrong; sounding rows below it are missed.
    """
    order = np.argsort(-confidences, kind="stable")
    ends = np.flatnonzero(np.diff(confidences[order], append=-np.inf))  # equal confidences fall together
    right = np.cumsum(sounding[order] & success(cious)[order])[ends]
    missed = sounding.sum() - np.cumsum(sounding[order])[ends]
    precision = right / (ends + 1)
    recall = right / np.maximum(right + missed, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    ap = (np.diff(recall, prepend=0.0) * envelope).sum()
    return SourceDetection(100 * float(ap), 100 * float(f1.max()))
