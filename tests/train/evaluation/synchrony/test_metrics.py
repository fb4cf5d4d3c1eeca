"""Proves the figures of synchrony by arithmetic: matching with shared windows and ties, curves, delays, detection."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cavsync.pipeline.dataset.sampling import unbounded_starts, window_starts
from cavsync.train.embedding.sliding import WindowEmbeddings
from cavsync.train.evaluation.synchrony.clip import match_within
from cavsync.train.evaluation.synchrony.metrics import detect
from cavsync.train.evaluation.synchrony.offsets import (
    MIN_FRAMES,
    OffsetCurve,
    estimate_delay,
    offset_curve,
    offset_grid,
    without_missing,
)


def embedded(
    times_s: list[float], starts: list[int], own: list[int], **vectors: np.ndarray
) -> WindowEmbeddings:
    """A clip whose windows are one-hot and whose frames equal their own windows, unless given."""
    windows = vectors.get("windows", np.eye(len(starts)))
    return WindowEmbeddings(
        name="clip",
        times_s=np.array(times_s),
        frames=vectors.get("frames", windows[own]),
        starts=np.array(starts),
        windows=windows,
        own=np.array(own),
        unbounded=np.array(starts, float)[own],
        last_start=max(starts),
    )


def published_clip() -> WindowEmbeddings:
    """16 frames with windows of 416 of 1024 rows, and one more window that belongs to none."""
    starts, own = np.unique(window_starts(np.arange(16), 998, 416, "upstream"), return_inverse=True)
    return embedded(list(range(16)), [*starts, 700], list(own))


def test_windows_that_begin_at_one_row_are_one_candidate() -> None:
    within = match_within(published_clip())
    assert within is not None
    forth, back = within.frame_to_window, within.window_to_frame
    assert (forth.num_candidates, back.num_candidates) == (11, 16)
    assert (forth.top1, back.top1) == (1, 1)
    # A window's right frames are 4, nine times 1, and 3 of 16: 16 / 16 / 11 a window.
    assert forth.top1_chance == pytest.approx(1 / 11)
    assert back.top1_chance == pytest.approx(1 / 11)
    assert (forth.error_s, back.error_s) == (0, 0)


def test_frames_of_one_time_are_one_candidate() -> None:
    within = match_within(embedded([0.0, 0.0, 2.0, 3.0], [0, 100, 200], [0, 0, 1, 2]))
    assert within is not None
    assert within.window_to_frame.num_candidates == 3
    assert within.window_to_frame.top1_chance == pytest.approx(1 / 3)


def test_equal_scores_are_a_miss_and_their_error_is_that_of_chance() -> None:
    """Windows at 0, 1 and 3 s; the first belongs to two frames, at 0 and 1 s; the others to those at 2 and 4 s."""
    collapsed = embedded(
        [0, 1, 2, 4], [0, 100, 300], [0, 0, 1, 2], windows=np.ones((3, 2)), frames=np.ones((4, 2))
    )
    within = match_within(collapsed)
    assert within is not None
    forth, back = within.frame_to_window, within.window_to_frame
    assert (forth.top1, back.top1) == (0, 0)
    # From a frame to the three windows: 0 1 3, 0 1 3, 1 0 2, 3 2 0.
    assert forth.error_s == forth.error_chance_s == pytest.approx((4 + 4 + 3 + 5) / 12)
    # From a window to the nearest of its frames: 0 0 1 3, 2 1 0 2, 4 3 2 0.
    assert back.error_s == back.error_chance_s == pytest.approx((4 + 5 + 9) / 12)
    assert forth.top1_chance == pytest.approx(1 / 3)
    assert back.top1_chance == pytest.approx((2 + 1 + 1) / 12)


def test_a_wrong_window_costs_its_distance() -> None:
    turned = embedded([0, 1, 2], [0, 100, 300], [0, 1, 2], frames=np.eye(3)[[1, 2, 0]])
    within = match_within(turned)
    assert within is not None
    assert within.frame_to_window.top1 == 0
    assert within.frame_to_window.error_s == pytest.approx((1 + 2 + 3) / 3)
    assert within.window_to_frame.error_s == pytest.approx((2 + 1 + 1) / 3)
    assert within.chosen_of_frame.tolist() == [1, 2, 0]


def test_a_clip_with_one_window_or_one_frame_has_no_matching_score() -> None:
    assert match_within(embedded([0, 1], [0], [0, 0])) is None
    assert match_within(embedded([1, 1], [0, 100], [0, 1])) is None


def clock(times_s: np.ndarray, late_s: float = 0.0, num_rows: int = 998, step: int = 10) -> WindowEmbeddings:
    """Frames and windows of 96 rows as angles of their time: 1 s apart is 0.1 rad."""
    starts = np.arange(0, num_rows - 96 + 1, step)
    centres_s = (starts + 47.5) / 100 + 0.0125
    own = np.searchsorted(starts, window_starts(times_s, num_rows, 96)).clip(0, len(starts) - 1)
    return WindowEmbeddings(
        name="clock",
        times_s=times_s,
        frames=np.stack([np.cos(times_s / 10), np.sin(times_s / 10)], 1),
        starts=starts,
        windows=np.stack([np.cos((centres_s - late_s) / 10), np.sin((centres_s - late_s) / 10)], 1),
        own=own,
        unbounded=unbounded_starts(times_s, 96),
        last_start=num_rows - 96,
    )


TIMES_S = (np.arange(16) + 0.5) * 10 / 16


@pytest.mark.parametrize("late_s", [0.0, 0.37, -1.8, 3.0])
def test_the_curve_is_the_similarity_at_each_offset_and_peaks_at_the_delay(late_s: float) -> None:
    seen = clock(TIMES_S, late_s)
    curve = offset_curve(seen, seen, offset_grid(5.0, 0.1))
    known = np.isfinite(curve.mean)
    # Frames are not on the grid of windows; a line between two of them is off by 0.01^2 / 8 at most.
    np.testing.assert_allclose(
        curve.mean[known], np.cos((curve.offsets_s[known] - late_s) / 10), atol=0.01**2 / 8
    )
    delay = estimate_delay(curve)
    assert delay is not None
    assert delay.delay_s == pytest.approx(late_s, abs=0.02)
    assert delay.agreement == pytest.approx(1, abs=0.01)
    assert delay.is_reliable(0.8)


def test_frames_without_a_window_at_an_offset_are_not_counted_there() -> None:
    seen = clock(TIMES_S)
    curve = offset_curve(seen, seen, np.array([-4.0, 0.0, 4.0]))
    first_s, last_s = 0.475 + 0.0125, 9.02 + 0.475 + 0.0125  # centres of the first window and of the last
    inside = [((TIMES_S + offset >= first_s) & (TIMES_S + offset <= last_s)).sum() for offset in (-4, 0, 4)]
    assert curve.num_frames.tolist() == inside
    far = offset_curve(seen, seen, np.array([0.0, 6.0]))
    assert np.isfinite(far.mean).tolist() == [True, False]  # 5 of 14 are less than half


def test_windows_without_their_audio_are_compared_with_no_frame() -> None:
    """1.3 s are missing, and a window of 0.96 s counts where less than a tenth of it is."""
    seen = clock(TIMES_S)
    curve = offset_curve(seen, without_missing(seen, [(4.0, 5.3)], 96), np.zeros(1))
    begins_s = seen.unbounded / 100
    lacks = (begins_s + 0.96 > 4.0 + 0.1) & (begins_s < 5.3 - 0.1)
    inside = (begins_s >= 0) & (begins_s <= seen.last_start / 100)
    np.testing.assert_array_equal(np.isfinite(curve.each[:, 0]), inside & ~lacks)


def test_agreement_is_the_gain_common_to_the_frames() -> None:
    early, late = [0.0, 1, 0, 0, 0], [0.0, 0, 0, 1, 0]
    split = estimate_delay(OffsetCurve(np.arange(-2.0, 3), np.array([early] * 6 + [late] * 4)))
    assert split is not None
    assert split.delay_s == -1
    # Each alone gains 0.8 over its mean; at -1 s six gain it and four lose 0.2.
    assert split.agreement == pytest.approx((6 * 0.8 - 4 * 0.2) / (10 * 0.8))
    assert not split.is_reliable(0.8)
    assert split.is_reliable(0.5)


@pytest.mark.parametrize(
    ("each", "num_frames"),
    [
        ([0.0, 0, 1, 0, 0], MIN_FRAMES - 1),  # too few
        ([0.5, 0.5, 0.5, 0.5, 0.5], 20),  # flat
        ([1.0, 0.8, 0.6, 0.4, 0.2], 20),  # still rising where it ends
        ([np.nan, 1.0, 0.6, 0.4, np.nan], 20),
    ],
)
def test_no_delay_is_estimated_from(each: list[float], num_frames: int) -> None:
    delay = estimate_delay(OffsetCurve(np.arange(-2.0, 3), np.array([each] * num_frames)))
    assert delay is not None
    assert not delay.is_reliable(0.8)


def test_without_any_window_there_is_no_delay() -> None:
    assert estimate_delay(OffsetCurve(np.arange(3.0), np.full((4, 3), np.nan))) is None


def test_auc_is_the_known_one_with_ties_for_half() -> None:
    random = np.random.default_rng(0)
    in_step, wrong = random.integers(2, 8, (40, 2)) / 10, random.integers(0, 6, (40, 2)) / 10
    found = detect(in_step, wrong)
    assert found is not None
    labels = np.repeat([1, 0], 80)
    expected = roc_auc_score(labels, np.concatenate([in_step.ravel(), wrong.ravel()]))
    assert found.auc.value == pytest.approx(100 * expected)
    assert found.own.value == pytest.approx(100 * (in_step > wrong).mean())
    assert found.auc.low < found.auc.value < found.auc.high


def test_scores_that_are_all_equal_detect_nothing() -> None:
    found = detect(np.ones((5, 2)), np.ones((5, 2)))
    assert found is not None
    assert (found.auc.value, found.own.value) == (50, 0)


def test_clips_without_a_version_are_left_out_and_counted() -> None:
    in_step = np.array([[0.9, np.nan], [np.nan, np.nan], [0.7, 0.8]])
    wrong = np.array([[0.1, np.nan], [np.nan, np.nan], [0.75, 0.2]])
    found = detect(in_step, wrong)
    assert found is not None
    assert found.num_clips == 2
    # .9 and .8 beat all three, .7 beats two.
    assert found.auc.value == pytest.approx(100 * 8 / 9)
    assert found.own.value == pytest.approx(100 * (1 + 0.5) / 2)
    assert detect(in_step[1:2], wrong[1:2]) is None


def test_frames_that_are_worse_at_the_delay_than_elsewhere_do_not_agree() -> None:
    """The others, which have no audio there, only made the mean higher."""
    there, elsewhere = [5.0, 4, 6], [0.0, np.nan, 0]
    delay = estimate_delay(OffsetCurve(np.arange(-1.0, 2), np.array([there, there, elsewhere, elsewhere])))
    assert delay is not None
    assert delay.delay_s == pytest.approx(0, abs=0.5)
    assert delay.agreement == 0
