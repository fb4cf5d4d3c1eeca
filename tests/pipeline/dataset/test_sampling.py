"""Proves which instants become frames and which mel rows belong to each, by arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cavsync.pipeline.dataset.sampling import cut_window, frame_times_s, unbounded_starts, window_starts


def test_centred_frames_are_the_middles_of_equal_parts() -> None:
    np.testing.assert_allclose(frame_times_s(10.0, 4), [1.25, 3.75, 6.25, 8.75])


def test_upstream_frames_run_from_the_first_frame_to_the_last() -> None:
    np.testing.assert_allclose(frame_times_s(10.0, 3, "upstream", frame_duration_s=0.04), [0.0, 4.98, 9.96])


def test_upstream_windows_are_the_published_table() -> None:
    # (T = 416 of 1024 rows, 16 frames): frames 0-3 have one window, 13-15 another.
    starts = window_starts(np.arange(16), 998, 416, "upstream")
    assert starts.tolist() == [0, 0, 0, 0, 48, 112, 176, 240, 304, 368, 432, 496, 560, 608, 608, 608]


@given(
    duration_s=st.floats(1.0, 30.0),
    num_frames=st.integers(1, 32),
    window_rows=st.integers(1, 1200),
)
def test_time_windows_are_inside_and_centred_where_they_can_be(
    duration_s: float, num_frames: int, window_rows: int
) -> None:
    rows = int(duration_s * 100) - 2
    pts_s = frame_times_s(duration_s, num_frames)
    starts = window_starts(pts_s, rows, window_rows)
    assert (starts >= 0).all()
    assert (starts <= max(0, rows - window_rows)).all()
    centres_s = (starts + (window_rows - 1) / 2) * 0.01 + 0.0125
    free = (starts > 0) & (starts < rows - window_rows)
    assert (np.abs(centres_s - pts_s)[free] <= 0.0051).all()


@pytest.mark.parametrize(("rows", "kept"), [(10, 4), (6, 3), (3, 0)])
def test_a_window_past_the_end_is_padded(rows: int, kept: int) -> None:
    mel = np.ones((rows, 2))
    window = cut_window(mel, 3, 4, pad_value=-7.0)
    assert window.shape == (4, 2)
    assert (window[:kept] == 1).all()
    assert (window[kept:] == -7).all()


def test_windows_have_a_position_also_where_the_clip_has_no_rows() -> None:
    # Row r's centre is 10 r + 12.5 ms; 11 rows around row 5.75 begin 5 rows before it.
    np.testing.assert_allclose(unbounded_starts([0.07, 5.0], 11), [5.75 - 5, 498.75 - 5])
    assert unbounded_starts([0.01], 416)[0] < 0
    assert unbounded_starts(np.arange(16), 416, "upstream").tolist()[:3] == [-208, -144, -80]
