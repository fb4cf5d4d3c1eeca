"""Proves that intervals of classification's figures are those of the figures on resampled clips."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cavsync.train.evaluation.classification.estimates import (
    ClassificationEstimates,
    classification_estimates,
    ranking_figures,
)
from cavsync.train.evaluation.classification.metrics import chance, classification, d_prime
from cavsync.train.reporting.estimate import Estimate


@pytest.mark.parametrize("decimals", [1, 6])  # with many equal scores, and with none
def test_figures_of_a_resample_are_those_of_its_clips_written_out(decimals: int) -> None:
    random = np.random.default_rng(0)
    scores, has = np.round(random.random(60), decimals), random.random(60) < 0.3
    counts = random.integers(0, 4, (60, 8))
    precisions, areas = ranking_figures(scores, has, counts)
    for resample in range(8):
        written_out = [np.repeat(part, counts[:, resample]) for part in (has, scores)]
        assert precisions[resample] == pytest.approx(average_precision_score(*written_out))
        assert areas[resample] == pytest.approx(roc_auc_score(*written_out))


def test_a_resample_without_the_class_or_without_others_has_no_figure() -> None:
    counts = np.array([[1, 0, 2], [1, 2, 0]])
    precisions, areas = ranking_figures(np.array([0.9, 0.1]), np.array([True, False]), counts)
    assert precisions[[0, 2]].tolist() == [1, 1]
    assert math.isnan(precisions[1])
    assert areas[0] == 1
    assert np.isnan(areas[1:]).all()


def estimated(probabilities: np.ndarray, truth: np.ndarray) -> ClassificationEstimates:
    names = [str(number) for number in range(truth.shape[1])]
    figures = classification(probabilities, truth, names)
    return classification_estimates(figures, chance(truth, names), probabilities, truth)


def random_answers(num_clips: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    truth = np.eye(4, dtype=bool)[random.integers(4, size=num_clips)]
    return random.random((num_clips, 4)) + 0.5 * truth, truth


def test_intervals_hold_the_figures_and_narrow_with_more_clips() -> None:
    widths = []
    for num_clips in (100, 1600):
        probabilities, truth = random_answers(num_clips)
        estimates = estimated(probabilities, truth)
        for name in ("mean_average_precision", "auc", "d_prime", "top1", "top1_macro"):
            one: Estimate = getattr(estimates, name)
            assert one.low is not None
            assert one.high is not None
            assert one.low < one.value < one.high
        assert estimates.top1.low is not None
        assert estimates.top1.high is not None
        widths.append(estimates.top1.high - estimates.top1.low)
    # Deviations fall with the square root of the number: by 4.
    assert 3 < widths[0] / widths[1] < 5.5


def test_nothing_is_uncertain_about_a_model_that_is_always_right() -> None:
    truth = np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]]
    found = estimated(truth.astype(float), truth)
    for one in (found.mean_average_precision, found.top1):
        assert (one.value, one.low, one.high) == (1, 1, 1)
    assert (found.d_prime.low, found.d_prime.high) == (d_prime(1.0), math.inf)


def test_a_class_without_clips_has_no_interval() -> None:
    truth = np.array([[True, False]] * 4)
    found = estimated(np.full((4, 2), 0.5), truth)
    certain, undefined = found.average_precisions
    assert certain == Estimate(1, 1, 1, chance=1, unit="")
    assert undefined is None
    for one in (found.auc, found.d_prime):
        assert math.isnan(one.value)
        assert (one.low, one.high) == (None, None)
