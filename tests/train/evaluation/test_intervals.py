"""Proves that intervals of proportions are exact, hold where a score is at its bound, and hold as often as they say."""

import numpy as np
import pytest
from scipy import stats

from cavsync.train.evaluation.intervals import clopper_pearson, korn_graubard, of_median, paired_proportions
from cavsync.train.evaluation.segmentation.metrics import segment
from cavsync.train.evaluation.statistics import mean, mean_percent, median_rank, proportion


@pytest.mark.parametrize(
    ("right", "of", "low", "high"), [(128, 128, 97.2, 100), (119, 120, 95.4, 99.98), (0, 20, 0, 16.8)]
)
def test_a_proportion_has_the_exact_binomial_interval(right: int, of: int, low: float, high: float) -> None:
    found = proportion(np.arange(of) < right)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))
    expected = stats.binomtest(right, of).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high))


@pytest.mark.parametrize("of", [1, 5, 30, 128])
def test_at_least_95_of_100_intervals_of_a_proportion_hold_it(of: int) -> None:
    right, rates = np.arange(of + 1), np.linspace(0.001, 0.999, 200)[:, None]
    low, high = np.transpose([clopper_pearson(int(number), of) for number in right])
    holds = (low <= rates) & (rates <= high)
    assert (stats.binom.pmf(right, of, rates) * holds).sum(axis=1).min() >= 0.95


def test_fractions_that_are_all_0_or_1_are_a_proportion() -> None:
    hits = np.array([1.0] * 127 + [0.0])
    assert mean_percent(hits, 5.0) == proportion(hits == 1, 5.0)


def test_a_mean_of_fractions_is_as_sure_as_they_are_alike_and_at_its_bound_as_clips_are_many() -> None:
    random = np.random.default_rng(0)
    fractions = random.binomial(16, 0.3, 128) / 16
    found = mean_percent(fractions)
    assert found.low is not None
    assert found.high is not None
    # 1.96 standard errors of 128 x 16 draws are 2 points.
    assert (found.value - found.low, found.high - found.value) == pytest.approx((2, 2), abs=0.3)
    certain = mean_percent(np.ones(128))
    assert (certain.value, certain.low, certain.high) == (100, pytest.approx(97.2, abs=0.05), 100)
    nearly = mean_percent(np.array([*[1.0] * 127, 0.9]))
    assert nearly.low is not None
    assert 99 < nearly.low < nearly.value


@pytest.mark.parametrize("rate", [0.3, 0.97, 0.999])
def test_intervals_of_means_within_clips_hold_as_often_as_they_say(rate: float) -> None:
    """40 clips of 16 frames each, which clips are unequally good at."""
    random = np.random.default_rng(1)
    of_clips = random.beta(4 * rate, 4 * (1 - rate), (400, 40))
    found = [mean_percent(random.binomial(16, one) / 16) for one in of_clips]
    holds = [one.low <= 100 * rate <= one.high for one in found]  # type: ignore[operator]
    assert np.mean(holds) >= 0.92


def test_the_median_of_ranks_has_the_interval_of_order_statistics() -> None:
    found = median_rank(np.arange(100))
    # 39 or fewer of 100 are below the median with a probability of 1.8 %, 40 or fewer with one of 2.8 %.
    assert (found.value, found.low, found.high) == (50.5, 40, 61)
    assert (
        median_rank(np.zeros(128, int)).high == 1
    )  # more than half of all ranks are 1, or 128 of them would not be
    assert of_median(np.arange(5.0)) is None  # all 5 lie on one side once in 16 times


def test_values_that_do_not_vary_and_single_ones_have_no_interval() -> None:
    for values in (np.array([2.0]), np.full(9, 2.0)):
        assert (mean(values).low, mean(values).high) == (None, None)
    assert mean_percent(np.array([0.5])).low is None


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 0), (30, 12), (100, 0)])
def test_a_paired_difference_holds_its_estimate_and_leaves_out_0_where_changes_are_one_sided(
    gained: int, lost: int
) -> None:
    low, high = paired_proportions(gained, lost, 100)
    assert low <= (gained - lost) / 100 <= high
    # McNemar's exact test of changes that are as likely one way as the other.
    certain = gained > lost and stats.binomtest(gained, gained + lost).pvalue < 0.05
    assert (low > 0) == certain


@pytest.mark.parametrize("value", [0.0, 1.0, 0.4])
def test_a_score_without_a_standard_error_is_as_sure_as_its_items_are_many(value: float) -> None:
    assert korn_graubard(value, 0.0, 10, 9) == clopper_pearson(10 * value, 10)


def test_intervals_of_few_rows_a_class_hold_as_often_as_they_say() -> None:
    """4 classes of 5 rows of 100 pixels; rows differ in how well their pixels are found."""
    random = np.random.default_rng(0)
    names = [str(number) for number in range(4) for _ in range(5)]
    drawn = []
    for _ in range(40):
        truths = [random.random((10, 10)) < random.uniform(0.05, 0.5) for _ in names]
        maps = [random.normal(size=(10, 10)) + random.normal(1, 0.7) * truth for truth in truths]
        drawn.append(segment(names, [1 / (1 + np.exp(-one)) for one in maps], truths))
    for figure in ("ap", "iou", "fixed_iou"):
        means = [getattr(one, figure) for one in drawn]
        right = np.mean([one.value for one in means])
        assert np.mean([one.low <= right <= one.high for one in means]) >= 0.85
        of_classes = [getattr(one, figure) for found in drawn for one in found.classes]
        right = np.mean([one.value for one in of_classes])
        assert np.mean([one.low <= right <= one.high for one in of_classes]) >= 0.92
