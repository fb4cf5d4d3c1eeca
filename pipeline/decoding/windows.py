"""Cuts a file of any length into windows at a steady step: a frame and a log-mel each, either of which may be missing.

The decoder process reads the file segment by segment, so only the windows in work are in memory, and damage costs the
segment that it is in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cavsync.pipeline.dataset.sampling import window_centre_s
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import MediaSegment, SegmentRequest
from cavsync.pipeline.media.mel import FRAME_SAMPLES, SHIFT_SAMPLES, is_silent, log_mel

# The video packets of a segment are held in memory.
LONGEST_SEGMENT_S = 60.0
MOST_WINDOWS = 64
# The last row of a window's log-mel covers samples beyond the window's end; and some room for rounding.
REACH_S = (FRAME_SAMPLES - SHIFT_SAMPLES) / SAMPLE_RATE_HZ + 0.005
# Headers are wrong by a frame or a packet of audio; what misses more at the end was cut off.
HEADER_TOLERANCE_S = 1.0
# After so many segments that gave nothing the rest is given up, however long the header says the file is.
MOST_EMPTY = 10


@dataclass(frozen=True)
class WindowSpec:
    """Windows of `rows` rows of log-mel, one every `step_rows` rows."""

    rows: int
    step_rows: int
    side: int  # of the frames, in pixels

    def __post_init__(self) -> None:
        if not 1 <= self.step_rows <= self.rows:
            raise ValueError(
                f"{self.step_rows=} must be 1 or more, and {self.rows=} at most: else parts are skipped"
            )

    @property
    def windows_per_segment(self) -> int:
        return max(1, min(MOST_WINDOWS, int(LONGEST_SEGMENT_S * MEL_ROWS_PER_S) // self.step_rows))


@dataclass(frozen=True)
class Window:
    """The frame and the log-mel of [start_s, end_s) of a file."""

    start_s: float
    end_s: float
    frame_s: float | None  # when the frame came on screen
    frame: bytes | None  # JPEG; the one on screen in the window's middle, None after the last frame
    # (rows, 128) float16, fewer at the audio's end; None for silence, and after the audio
    mel: np.ndarray | None


class SlidingWindows:
    """Iterate over it once: batches of windows in order of time. What was damaged is known afterwards.

    The windows are those at multiples of the step that lie inside the file, and one that ends with it; a file
    shorter than a window is one window. Raises MediaError where nothing can be read at all.
    """

    def __init__(self, path: Path, spec: WindowSpec, decoder: DecoderProcess) -> None:
        self.path, self.spec = path, spec
        self.file_s = decoder.duration_s(path) or 0.0  # as the header says; 0 where it does not
        self.duration_s = 0.0  # as far as anything was read
        self.damage: list[str] = []
        self._decoder = decoder
        self._last_start = -1
        self._is_empty = False  # whether the last segment held nothing

    def __iter__(self) -> Iterator[list[Window]]:
        first, until_s, ended, error, num_empty = 0, 0.0, False, None, 0
        while num_empty < MOST_EMPTY and (not ended or until_s + HEADER_TOLERANCE_S < self.file_s):
            num_empty += 1
            starts = first + self.spec.step_rows * np.arange(self.spec.windows_per_segment)
            until_s = float(starts[-1] + self.spec.rows) / MEL_ROWS_PER_S
            try:
                windows, ended = self._windows(starts)
                windows += self._last_window() if ended else []
            except MediaError as damage:
                self.damage.append(f"{first / MEL_ROWS_PER_S:.0f} to {until_s:.0f} s: {damage.reason}")
                error, ended = error or damage, True
                if damage.state != ClipState.DECODE_ERROR:
                    break
            else:
                num_empty = num_empty if self._is_empty else 0
                if windows:
                    yield windows
            first = int(starts[-1]) + self.spec.step_rows
        if self._last_start < 0:
            raise error or MediaError(ClipState.TOO_SHORT, "it holds less than a row of log-mel, 25 ms")
        if self.duration_s + HEADER_TOLERANCE_S < self.file_s and not self.damage:
            self.damage.append(f"it ends after {self.duration_s:.1f} of {self.file_s:.1f} s")

    def _windows(self, starts: np.ndarray) -> tuple[list[Window], bool]:
        """The windows at rows `starts`, (W,), that the file holds, and whether it ends there."""
        segment = self._read(starts, self.spec.rows)
        self._is_empty = not segment.shown and _audio_s(segment) <= 0
        if segment.end_s > segment.start_s:
            self.duration_s = max(self.duration_s, segment.end_s)
        inside = starts[starts + self.spec.rows <= _num_rows(segment.end_s)]
        self._last_start = max([self._last_start, *inside.tolist()])
        return _cut(segment, inside, self.spec.rows), len(inside) < len(starts)

    def _last_window(self) -> list[Window]:
        """The window that ends with the file, unless it is one of those at a step."""
        num_rows = _num_rows(self.duration_s)
        start, held = max(0, num_rows - self.spec.rows), min(self.spec.rows, num_rows)
        if num_rows <= 0 or start <= self._last_start:
            return []
        starts = np.array([start])
        try:
            window = _cut(self._read(starts, held), starts, held)
        except MediaError as damage:
            self.damage.append(f"the last {held / MEL_ROWS_PER_S:.1f} s: {damage.reason}")
            return []
        self._last_start = start
        return window

    def _read(self, starts: np.ndarray, num_rows: int) -> MediaSegment:
        begin_s, end_s = float(starts[0]) / MEL_ROWS_PER_S, float(starts[-1] + num_rows) / MEL_ROWS_PER_S
        instants_s = tuple(window_centre_s(starts, num_rows).tolist())
        segment = self._decoder.read(
            SegmentRequest(self.path, begin_s, end_s - begin_s + REACH_S, instants_s, self.spec.side)
        )
        if segment.failure is not None:
            damage = f"{begin_s:.0f} to {end_s:.0f} s: {segment.failure}"
            self.damage += [damage] if damage not in self.damage else []
        return segment


def _audio_s(segment: MediaSegment) -> float:
    """How much audio, silent or not, the segment holds."""
    missing_s = sum(stop_s - start_s for start_s, stop_s in segment.audio_gaps_s)
    return len(segment.waveform) / SAMPLE_RATE_HZ - missing_s


def _num_rows(duration_s: float) -> int:
    """Rows of log-mel in so much audio; below 1 there is none."""
    return 1 + (round(duration_s * SAMPLE_RATE_HZ) - FRAME_SAMPLES) // SHIFT_SAMPLES


def _cut(segment: MediaSegment, starts: np.ndarray, num_rows: int) -> list[Window]:
    """The windows at rows `starts`, (W,), of a segment that was read for at least these."""
    first_row = round(segment.start_s * MEL_ROWS_PER_S)
    mel = log_mel(segment.waveform).astype(np.float16) if len(segment.waveform) >= FRAME_SAMPLES else None
    windows = []
    for number, (start, centre_s) in enumerate(
        zip(starts.tolist(), window_centre_s(starts, num_rows), strict=True)
    ):
        rows = slice(start - first_row, start - first_row + num_rows)
        audible = mel is not None and _is_audible(segment, rows, float(centre_s))
        has_frame = number < len(segment.frames) and segment.frames[number] is not None
        windows.append(
            Window(
                start_s=start / MEL_ROWS_PER_S,
                end_s=(start + num_rows) / MEL_ROWS_PER_S,
                frame_s=segment.frame_times_s[number] if has_frame else None,
                frame=segment.frames[number] if has_frame else None,
                mel=mel[rows] if audible and mel is not None else None,
            )
        )
    return windows


def _is_audible(segment: MediaSegment, rows: slice, centre_s: float) -> bool:
    """Whether there is audio in the window's middle, and it is not silent from beginning to end."""
    samples = segment.waveform[rows.start * SHIFT_SAMPLES : rows.stop * SHIFT_SAMPLES]
    is_there = centre_s < (segment.audio_end_s or 0.0)
    is_missing = any(start_s <= centre_s < stop_s for start_s, stop_s in segment.audio_gaps_s)
    return bool(is_there and not is_missing and not is_silent(samples))
