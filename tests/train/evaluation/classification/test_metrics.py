"""Proves the figures of classification on examples small enough to work out by hand."""

import math

import numpy as np
import pytest

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.classification.metrics import chance, classification, confusions, d_prime


def one_class(scores: list[float], truth: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(scores)[:, None], np.array(truth)[:, None]


def test_average_precision_is_that_of_the_ranking() -> None:
    # Precision 1 at the first positive, 2/3 at the second.
    scored = classification(*one_class([0.9, 0.8, 0.7, 0.6, 0.1], [1, 0, 1, 0, 0]), ["bee"])
    assert scored.mean_average_precision == pytest.approx(0.8333, abs=5e-5)


def test_equal_scores_get_the_fraction_of_positives_and_no_discrimination() -> None:
    scored = classification(*one_class([0.3] * 5, [1, 0, 1, 0, 0]), ["bee"])
    assert scored.mean_average_precision == pytest.approx(0.4)
    assert (scored.auc, scored.d_prime) == (0.5, 0.0)


def test_d_prime_of_an_auc() -> None:
    assert d_prime(0.95) == pytest.approx(2.3262, abs=5e-5)
    assert (d_prime(1.0), d_prime(0.0)) == (math.inf, -math.inf)
    assert math.isnan(d_prime(math.nan))


def test_a_class_without_positives_is_in_no_mean_and_is_named() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1]])
    truth = np.array([[1, 0, 0], [0, 1, 0]])
    scored = classification(probabilities, truth, ["bee", "bell", "siren"])
    assert scored.without_positives == ["siren"]
    assert (scored.mean_average_precision, scored.auc, scored.top1_macro) == (1.0, 1.0, 1.0)
    assert scored.classes[2].average_precision is None


def test_a_class_that_every_clip_has_has_no_auc() -> None:
    scored = classification(*one_class([0.9, 0.1], [1, 1]), ["bee"])
    assert scored.mean_average_precision == 1.0
    assert math.isnan(scored.auc)


def test_micro_counts_clips_and_macro_counts_classes() -> None:
    # Three of three bees are right and the only bell is wrong: 3 of 4 clips, half of the classes.
    probabilities = np.array([[0.9, 0.1]] * 4)
    truth = np.array([[1, 0]] * 3 + [[0, 1]])
    scored = classification(probabilities, truth, ["bee", "bell"])
    assert (scored.top1, scored.top1_macro) == (0.75, 0.5)
    assert confusions(probabilities, truth, ["bee", "bell"]) == [("bell", "bee", 1)]


def test_any_label_of_a_clip_is_a_right_answer() -> None:
    scored = classification(np.array([[0.9, 0.5, 0.1]]), np.array([[1, 1, 0]]), ["bee", "bell", "siren"])
    assert scored.top1 == 1.0
    assert scored.top1_macro == 0.5


def test_wrong_scores_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"probabilities \(2, 3\) and truth \(2, 2\) must both be"):
        classification(np.zeros((2, 3)), np.zeros((2, 2)), ["bee", "bell"])
    with pytest.raises(EvaluationError, match=r"of 1 clips hold NaN or infinity \(first: number 1\)"):
        classification(np.array([[0.1], [math.nan]]), np.ones((2, 1)), ["bee"])
    with pytest.raises(EvaluationError, match="no clip to score"):
        classification(np.zeros((0, 1)), np.zeros((0, 1)), ["bee"])


def test_chance_needs_no_model() -> None:
    truth = np.array([[1, 0, 0]] * 3 + [[0, 1, 0]])
    levels = chance(truth, ["bee", "bell", "siren"])
    # Equal scores get each class's fraction of the clips; siren has none and is in no mean.
    equal = classification(np.full((4, 3), 0.2), truth, ["bee", "bell", "siren"])
    assert levels.mean_average_precision == equal.mean_average_precision == 0.5
    assert (levels.top1, levels.top1_macro) == (1 / 3, 1 / 3)
    assert (levels.frequent_name, levels.frequent_top1) == ("bee", 0.75)
