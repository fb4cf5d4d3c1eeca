"""Time arithmetic: the instants at which frames are taken, and the mel rows of each frame's audio segment.

Times are seconds from the clip's start, intervals are [start, stop).
"""

import math
from collections.abc import Sequence

import numpy as np

from cavsync.pipeline.dataset.choices import Alignment, FrameTimes
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S

# Kaldi's row r covers samples [160 r, 160 r + 400) at 16 kHz: its centre is 12.5 ms after its start.
ROW_CENTRE_S = 0.0125
# The published model sees 10-s clips padded to 1024 rows and cuts its windows from those.
UPSTREAM_ROWS = 1024


def frame_times_s(
    duration_s: float, num_frames: int, rule: FrameTimes = "centred", frame_duration_s: float = 0.0
) -> np.ndarray:
    """The instants whose frames are kept, (num_frames,).

    `centred` takes the middle of each of `num_frames` equal parts; `upstream` spreads them evenly from the first
    frame of the video to the last, which begins `frame_duration_s` before the end.
    """
    if rule == "upstream":
        return np.linspace(0.0, max(0.0, duration_s - frame_duration_s), num_frames)
    return (np.arange(num_frames) + 0.5) * (duration_s / num_frames)


def window_starts(
    frame_pts_s: Sequence[float] | np.ndarray,
    num_mel_rows: int,
    window_rows: int,
    alignment: Alignment = "time",
) -> np.ndarray:
    """First mel row of each frame's window, (num_frames,) int32, from presentation times (num_frames,).

    `time` centres the window on the frame's presentation time; `upstream` on row `i * 1024 / n` of the
    clip padded to 1024 rows, as published weights were trained. At either end the window is shifted inward,
    never cut, unless the clip itself is shorter than the window.
    """
    total = UPSTREAM_ROWS if alignment == "upstream" else num_mel_rows
    starts = np.rint(unbounded_starts(frame_pts_s, window_rows, alignment))
    inside: np.ndarray = np.clip(starts, 0, max(0, total - window_rows)).astype(np.int32)
    return inside


def unbounded_starts(
    frame_pts_s: Sequence[float] | np.ndarray, window_rows: int, alignment: Alignment = "time"
) -> np.ndarray:
    """Start of each frame's window before it is shifted into the clip, (num_frames,) in fractional mel rows."""
    if alignment == "upstream":
        num_frames = len(frame_pts_s)
        # Python's round, halves to even, as upstream's.
        centres = np.array([round(i * UPSTREAM_ROWS / num_frames) for i in range(num_frames)])
        return (centres - window_rows // 2).astype(np.float64)
    centre_rows: np.ndarray = (np.asarray(frame_pts_s) - ROW_CENTRE_S) * MEL_ROWS_PER_S
    return centre_rows - (window_rows - 1) / 2


def window_centre_s(start: np.ndarray | float, num_rows: np.ndarray | float) -> np.ndarray:
    """The instant in the middle of rows [start, start + num_rows), element by element: of the shape that both broadcast to."""
    centres: np.ndarray = (np.asarray(start) + (np.asarray(num_rows) - 1) / 2) / MEL_ROWS_PER_S + ROW_CENTRE_S
    return centres


def cut_window(mel: np.ndarray, start: int, window_rows: int, pad_value: float) -> np.ndarray:
    """Rows [start, start + window_rows) of a (rows, mels) log-mel; rows past its end are `pad_value`."""
    window = mel[start : start + window_rows]
    missing = window_rows - len(window)
    if missing == 0:
        return window
    return np.pad(window, ((0, missing), (0, 0)), constant_values=pad_value)


def rounded_down(seconds: float) -> str:
    """To 10 ms, for messages; never up to a limit that was not reached."""
    return f"{math.floor(seconds * 100) / 100:.2f}"


def spread(count: int, most: int) -> np.ndarray:
    """(min(count, most),) int: indices below `count`, the middles of equal parts."""
    parts = min(count, most)
    indices: np.ndarray = ((np.arange(parts) + 0.5) * count / parts).astype(int)
    return indices
