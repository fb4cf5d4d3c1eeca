"""What a player shows and plays of a file, by arithmetic: the frame on screen and the pitch of the audio at any time.

Frame n shows the number n. The audio is support.media's chirp, begun anew every 10 s, so that its pitch stays inside
the mel banks and a clip that begins at a multiple of 10 s reads its own time.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.media import read_frame_number, read_time_s

CLIP_S = 10.0  # what `cavsync prepare folder` takes at a time, and the period of the chirp
PIECE_ROWS = 50  # of log-mel, in which a time is read
# Kaldi's log of no energy at all is -15.94; no encoder leaves so little in audio.
ABSOLUTE_SILENCE = -15.5
# The chirp is as loud everywhere: codecs change the loudest band from row to row by up to 0.22, holes of 10 ms by 1.
UNEVEN = 0.35
MEDIAN_ROWS = 21
SAME_S = 2e-3  # containers round times to a millisecond

Spans = tuple[tuple[float, float], ...]  # [start, stop) in seconds


def as_stored(image: np.ndarray) -> np.ndarray:
    return image


@dataclass(frozen=True, kw_only=True)
class FieldFile:
    """Times are seconds from the file's start."""

    path: Path
    frame_times_s: tuple[float, ...]  # when frame n comes on screen
    end_s: float  # of the audio; the last frame stays until then
    numbers: tuple[int, ...] | None = None  # what the frames show; None: 0, 1, 2, ...
    audio_source_s: float = 0.0  # the chirp's time at the file's start
    slips: tuple[tuple[float, float], ...] = ()  # (from, by): from then on the audio comes so much later
    pitch_tolerance_s: float = 6e-3
    gap_tolerance_s: float = 0.06  # a packet or two
    audio_gaps_s: Spans = ()
    frame_gaps_s: Spans = ()
    audio_channel: int | None = 0
    silent: bool = False
    state: str = "ok"  # of its first clip
    is_joined: bool = False  # of several files, or the clock begins anew within it
    orientation: int = 1  # EXIF
    sample_aspect_ratio: float = 1.0
    upright: Callable[[np.ndarray], np.ndarray] = as_stored  # undoes what a player turns or mirrors
    tolerance_s: float = 0.06  # of the end, of either stream: a packet of audio, a frame

    @property
    def lead_s(self) -> float:
        """When the first frame is there."""
        late = [stop for start, stop in self.frame_gaps_s if start == 0]
        return max([0.0, self.frame_times_s[0], *late])

    def source_s(self, time_s: float) -> float:
        """The time of the audio, as its pitch gives it."""
        late_s = sum(by_s for from_s, by_s in self.slips if time_s >= from_s)
        return (time_s + self.audio_source_s - late_s) % CLIP_S

    def position_at(self, time_s: float) -> int:
        """Which of `frame_times_s` is on screen."""
        return max(0, bisect_right(self.frame_times_s, time_s + 1e-6) - 1)

    def number(self, position: int) -> int:
        return position if self.numbers is None else self.numbers[position]

    def seen_in(self, image: np.ndarray) -> int:
        """The number that a (height, width, 3) image of the file shows."""
        return read_frame_number(self.upright(image))

    def clip_starts_s(self, min_duration_s: float = 1.0) -> list[float]:
        """Of the 10-s clips of the whole file."""
        starts_s: list[float] = np.arange(0, self.end_s - min_duration_s, CLIP_S).tolist()
        return starts_s

    def within(self, start_s: float, stop_s: float) -> tuple[Spans, Spans]:
        """The gaps of audio and of frames in [start_s, stop_s), as seconds from `start_s`."""
        return _inside(self.audio_gaps_s, start_s, stop_s), _inside(self.frame_gaps_s, start_s, stop_s)


def _inside(spans: Spans, start_s: float, stop_s: float) -> Spans:
    kept = [(max(one, start_s) - start_s, min(other, stop_s) - start_s) for one, other in spans]
    return tuple((one, other) for one, other in kept if one < other)


def check_shown(
    file: FieldFile,
    instants_s: Sequence[float],
    begins_s: Sequence[float],
    images: Sequence[np.ndarray],
    slack_s: float = 0.0,
) -> None:
    """Images (height, width, 3) and their times are of the frames on screen at the instants, which are known up to
    `slack_s`; all times are seconds from the file's start."""
    assert len(instants_s) == len(begins_s) == len(images)
    near_s = SAME_S + slack_s  # near the change of a frame a rounded time may fall on either side
    for instant_s, began_s, image in zip(instants_s, begins_s, images, strict=True):
        at = f"at {instant_s:.3f} s"
        allowed = range(file.position_at(instant_s - near_s), file.position_at(instant_s + near_s) + 1)
        shown = file.seen_in(image)
        wanted = [file.number(position) for position in allowed]
        assert shown in wanted, f"{at} frame {shown} is seen, {wanted} is on screen"
        assert began_s <= instant_s + near_s, f"{at} a frame from the future, of {began_s:.3f} s"
        (position,) = [one for one in allowed if file.number(one) == shown]
        on_screen_s = file.frame_times_s[position]
        assert abs(began_s - on_screen_s) <= SAME_S, (
            f"{at} frame {shown} has the time {began_s}, not {on_screen_s}"
        )


def check_heard(file: FieldFile, start_s: float, mel: np.ndarray, named_gaps_s: Spans | None = None) -> None:
    """Log-mel (rows, 128) that begins `start_s` after the file's start has the pitch of its time everywhere, and is
    absolutely silent nowhere but in the named gaps, seconds from `start_s`; by default those of the file."""
    if file.silent:
        return
    gaps_s, _ = file.within(start_s, start_s + len(mel) / 100 + 1)
    quiet_s = np.flatnonzero(mel.max(axis=1) < ABSOLUTE_SILENCE) / 100
    quiet_s = quiet_s[quiet_s < file.end_s - start_s - 0.025]  # encoders fill their last packet with zeros
    excused_s = gaps_s if named_gaps_s is None else named_gaps_s
    unnamed_s = [
        row_s for row_s in quiet_s if not _touches(excused_s, row_s, row_s + 0.025, file.gap_tolerance_s)
    ]
    assert not unnamed_s, (
        f"zeros in place of audio, {len(unnamed_s)} rows from {start_s + unnamed_s[0]:g} s on"
    )
    check_evenness(file, start_s, mel)
    for first in range(10, len(mel) - PIECE_ROWS - 10, PIECE_ROWS):
        check_pitch(file, start_s + first / 100, mel[first : first + PIECE_ROWS])


def check_evenness(file: FieldFile, start_s: float, mel: np.ndarray) -> None:
    """Log-mel (rows, 128) has no holes but the file's gaps, however short."""
    loud = np.pad(mel.max(axis=1).astype(np.float64), MEDIAN_ROWS // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(loud, MEDIAN_ROWS)
    times_s = start_s + np.arange(len(mel)) / 100
    source_s = (times_s + file.audio_source_s) % CLIP_S
    kept = (
        (times_s > start_s + 0.1)
        & (times_s < file.end_s - 0.15)
        & (source_s > 0.2)
        & (source_s < CLIP_S - 0.2)
    )
    for gap_start_s, gap_stop_s in file.audio_gaps_s:
        kept &= (times_s < gap_start_s - 0.15) | (times_s > gap_stop_s + 0.15)
    uneven = np.quantile(np.abs(windows[:, MEDIAN_ROWS // 2] - np.median(windows, axis=1))[kept], 0.95)
    assert uneven < UNEVEN, f"the loudest band jumps by {uneven:.2f} from row to row: the audio has holes"


def check_pitch(file: FieldFile, begin_s: float, mel: np.ndarray) -> None:
    """Log-mel (50 rows or more, 128) that begins `begin_s` after the file's start is of that time; where it touches a gap
    or the end of a chirp, nothing is known."""
    end_s, source_s = begin_s + len(mel) / 100 + 0.025, file.source_s(begin_s)
    edges = (*file.audio_gaps_s, (file.end_s, file.end_s + 1))
    if _touches(edges, begin_s, end_s, 0.1) or not 0.1 < source_s < CLIP_S - len(mel) / 100 - 0.1:
        return
    heard_s = read_time_s(mel.astype(np.float64))
    message = (
        f"{begin_s:.2f} s after its start the file has the pitch of {heard_s:.3f} s, not of {source_s:.3f} s"
    )
    assert abs(heard_s - source_s) <= file.pitch_tolerance_s, message


def _touches(spans: Spans, start_s: float, stop_s: float, margin_s: float) -> bool:
    return any(start_s < other + margin_s and stop_s > one - margin_s for one, other in spans)


def check_named(wanted: Spans, named: Sequence[Sequence[float]], tolerance_s: float) -> None:
    """The gaps that were named are the wanted ones; shorter ones than `tolerance_s` may be named or not."""
    long = [tuple(span) for span in named if span[1] - span[0] > tolerance_s]
    expected = [span for span in wanted if span[1] - span[0] > tolerance_s]
    assert len(long) == len(expected), f"named {long}, wanted {expected}"
    for (start_s, stop_s), (wanted_start_s, wanted_stop_s) in zip(long, expected, strict=True):
        apart_s = max(abs(start_s - wanted_start_s), abs(stop_s - wanted_stop_s))
        assert apart_s <= tolerance_s, f"named {long}, wanted {expected}"
