"""Proves that intervals of classification's figures are made from the figures without each clip, and hold the right value."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cavsync.train.evaluation.classification.estimates import (
    ClassificationEstimates,
    classification_estimates,
    ranking_without_clips,
)
from cavsync.train.evaluation.classification.metrics import chance, classification, d_prime
from cavsync.train.reporting.estimate import Estimate


@pytest.mark.parametrize("decimals", [1, 6])  # with many equal scores, and with none
def test_figures_without_a_clip_are_those_of_the_other_clips(decimals: int) -> None:
    random = np.random.default_rng(0)
    scores, has = np.round(random.random(60), decimals), random.random(60) < 0.3
    precisions, areas = ranking_without_clips(scores, has)
    for clip in range(60):
        others = np.arange(60) != clip
        assert precisions[clip] == pytest.approx(average_precision_score(has[others], scores[others]))
        assert areas[clip] == pytest.approx(roc_auc_score(has[others], scores[others]))


def test_without_its_only_clip_or_without_others_a_class_has_no_figure() -> None:
    precisions, areas = ranking_without_clips(np.array([0.9, 0.5, 0.1]), np.array([True, False, False]))
    assert np.isnan(precisions).tolist() == [True, False, False]
    assert np.isnan(areas).tolist() == [True, False, False]
    _, areas = ranking_without_clips(np.array([0.9, 0.1]), np.array([True, False]))
    assert np.isnan(areas).all()


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


def test_intervals_hold_the_right_value_as_often_as_they_say() -> None:
    """20 classes of 5 clips: resampling with replacement held it in 1 of 3 sets, because copies of a clip rank together."""
    truth = np.eye(20, dtype=bool)[np.repeat(np.arange(20), 5)]
    random = np.random.default_rng(0)
    drawn = [estimated(random.normal(size=truth.shape) + truth, truth) for _ in range(30)]
    estimates = [one.mean_average_precision for one in drawn]
    right = np.mean([one.value for one in estimates])
    assert all(one.low < one.value < one.high for one in estimates)  # type: ignore[operator]
    # Of 30 sets 28.5 on average; 25 or fewer would be drawn once in 60 times.
    assert sum(one.low <= right <= one.high for one in estimates) >= 26  # type: ignore[operator]
    of_classes = [one for found in drawn for one in found.average_precisions]
    right = np.mean([one.value for one in of_classes if one])
    assert np.mean([one.low <= right <= one.high for one in of_classes if one]) >= 0.93  # type: ignore[operator]


def test_six_right_answers_of_six_leave_room_for_errors() -> None:
    truth = np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]]
    found = estimated(truth.astype(float), truth)
    for one in (found.mean_average_precision, found.top1, found.top1_macro, found.auc):
        # Of a model that is right in 54 % of the cases, 2.5 % of such sets have no error.
        assert (one.value, one.low, one.high) == (1, pytest.approx(0.025 ** (1 / 6)), 1)
    assert (found.d_prime.low, found.d_prime.high) == (pytest.approx(d_prime(0.025 ** (1 / 6))), math.inf)


def test_a_class_of_one_clip_has_no_interval() -> None:
    truth = np.eye(2, dtype=bool)[[0, 0, 0, 0, 1]]
    several, alone = estimated(np.random.default_rng(0).random((5, 2)), truth).average_precisions
    assert several is not None
    assert several.low is not None
    assert alone is not None
    assert (alone.low, alone.high) == (None, None)


def test_a_class_without_clips_has_no_figure() -> None:
    truth = np.array([[True, False]] * 4)
    found = estimated(np.full((4, 2), 0.5), truth)
    certain, undefined = found.average_precisions
    assert certain is not None
    assert (certain.value, certain.chance) == (1, 1)
    assert undefined is None
    for one in (found.auc, found.d_prime):
        assert math.isnan(one.value)
        assert (one.low, one.high) == (None, None)
