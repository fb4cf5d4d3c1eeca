"""cIoU of the pixels that a map predicts with a truth, as the benchmarks with boxes publish it, and areas under its curves."""

import numpy as np

RATES_AT = np.linspace(0, 1, 21)
# Rounding must not cost an image that reaches a threshold of RATES_AT exactly.
ROUNDING = 1e-9


def ciou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Of a (height, width) bool map and a (height, width) truth in 0-1.

    An empty truth gets 0: the published code divides 0 by 0 there, which counts as a miss as well.
    """
    if not truth.any():
        return 0.0
    outside = np.count_nonzero(predicted & (truth == 0))
    return float(truth[predicted].sum() / (truth.sum() + outside))


def cious_above(scores: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(T,) cIoU of the pixels of a (height, width) map above each of T ascending thresholds."""
    if not truth.any():
        return np.zeros(len(thresholds))
    num_below = np.searchsorted(thresholds, scores.ravel(), side="left")  # thresholds that a pixel is above
    weights = truth.ravel().astype(np.float64)
    inside, outside = (
        np.bincount(num_below, part, len(thresholds) + 1)[::-1].cumsum()[::-1][1:]
        for part in (weights, weights == 0)
    )
    cious: np.ndarray = inside / (weights.sum() + outside)
    return cious


def area_under_success(cious: np.ndarray) -> float:
    """Trapezoids under the fraction of images whose (R,) cIoU reaches 0, 0.05, ..., 1."""
    return float(areas_under_success(cious).mean())


def areas_under_success(cious: np.ndarray) -> np.ndarray:
    """(R,) what each image contributes to `area_under_success`, which is their mean."""
    return _trapezoids(cious[:, None] >= RATES_AT - ROUNDING)


def areas_under_rejection(areas: np.ndarray) -> np.ndarray:
    """(R,) what each image contributes to the area under the fraction of images of which at most 0, 0.05, ..., 1 are lit."""
    return _trapezoids(areas[:, None] <= RATES_AT + ROUNDING)


def _trapezoids(reached: np.ndarray) -> np.ndarray:
    """(R,) trapezoids under (R, 21) booleans over `RATES_AT`."""
    under: np.ndarray = np.trapezoid(reached.astype(float), RATES_AT, axis=1)
    return under
