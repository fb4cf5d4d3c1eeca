"""The questions that the decoder process answers, and its answers. Loads no decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel, Crop
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import IndexRow
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.sampling import rounded_down
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.mel import is_silent
from cavsync.pipeline.storage.path import MediaPath


class Request(Protocol):
    """A question to the decoder process; it travels as a pickle. The worker knows which function answers its type."""

    @property
    def title(self) -> str:
        """For messages, such as "Clip abc"."""
        ...

    @property
    def timeout_s(self) -> float:
        """Wall clock for the answer."""
        ...


@dataclass(frozen=True)
class PreparedClip:
    """What became of a listed clip; only one in state ok has frames, a log-mel and, where it is kept, an audio file."""

    row: IndexRow  # without the places in the tar
    frames: Sequence[bytes] = ()  # JPEG
    mel: np.ndarray | None = None  # (rows, 128) float16
    audio: bytes | None = None  # FLAC or Opus

    @property
    def state(self) -> ClipState:
        return ClipState(self.row.state)


@dataclass(frozen=True)
class ClipRequest:
    """Asks for the `PreparedClip` of a plan row that has a video, which lies at `source` where the row's is not a path."""

    row: PlanRow
    config: PrepareConfig
    source: MediaPath | None = None

    @property
    def title(self) -> str:
        return f"Clip {self.row.key}"

    @property
    def timeout_s(self) -> float:
        return self.config.clip_timeout_s


def failed(row: PlanRow, state: ClipState, reason: str) -> PreparedClip:
    return PreparedClip(IndexRow.of(row, state, reason))


def without_video(row: PlanRow, unread: Sequence[str] = ()) -> PreparedClip | None:
    """The clip, if its row alone says that there is nothing to decode; `unread` says which archives were not listed whole."""
    if row.duplicate:
        return failed(row, ClipState.DUPLICATE, f"{row.key} is listed before, in an earlier row")
    if row.source is None:
        may_be = f"; it may be in an archive that is damaged: {' '.join(unread)}" if unread else ""
        return failed(row, ClipState.MISSING, f"no video of this clip was found{may_be}")
    return None


@dataclass(frozen=True)
class EvenFrames:
    """Frames spread evenly over the part of a segment that has both audio and frames: so many, or so many a second."""

    num_frames: int | None = None
    frames_per_s: float = 0.0

    def count(self, duration_s: float) -> int:
        """How many they are in a part of that length."""
        return self.num_frames or max(1, round(duration_s * self.frames_per_s))


@dataclass(frozen=True)
class SegmentRequest:
    """Asks for the `MediaSegment` [start_s, start_s + duration_s) of a media file; seconds from the file's start."""

    source: str | MediaPath
    start_s: float
    duration_s: float
    # Instants, ascending, at which frames are taken. None: the audio alone, whatever the file has beside it.
    frames: tuple[float, ...] | EvenFrames | None = None
    frame_size: int = PrepareConfig.frame_size  # pixels of the short side
    crop: Crop = "centre"
    jpeg_quality: int = PrepareConfig.jpeg_quality
    channel: AudioChannel = "first"
    timeout_s: float = PrepareConfig.clip_timeout_s

    @property
    def title(self) -> str:
        return f"File {self.source}"


@dataclass(frozen=True)
class MediaSegment:
    """What a file holds of a span; times are seconds from the file's start."""

    start_s: float
    # When the frame at each instant came on screen; fewer than requested after the last frame, and None where an
    # instant has no frame: before the first one, and where frames could not be decoded. Even frames are all there.
    frame_times_s: tuple[float | None, ...]
    frames: tuple[bytes | None, ...]  # JPEG
    frames_end_s: float | None  # the span's end at the latest; None without a video stream
    waveform: np.ndarray  # (samples,) float32 at 16 kHz, from `start_s` to the end of its audio
    audio_end_s: float | None  # as `frames_end_s`
    audio_gaps_s: Sequence[
        tuple[float, float]
    ] = ()  # [start, stop) where samples are missing, 0 in the waveform
    frame_gaps_s: Sequence[tuple[float, float]] = ()  # [start, stop) of frames that could not be decoded
    failure: str | None = None  # why they could not

    @property
    def end_s(self) -> float:
        """Where both have ended."""
        return max(self.frames_end_s or self.start_s, self.audio_end_s or self.start_s)

    @property
    def shown(self) -> list[tuple[float, bytes]]:
        """When each frame that is there came on screen, and the frame; of even frames, all."""
        pairs = zip(self.frame_times_s, self.frames, strict=True)
        return [(time_s, frame) for time_s, frame in pairs if time_s is not None and frame is not None]

    @property
    def is_silent(self) -> bool:
        return is_silent(self.waveform)

    def shared_s(self, min_duration_s: float) -> float:
        """How long there are both audio and frames, from `start_s` on.

        Raises MediaError with the state that a file ends in which lacks one, or has them for less than `min_duration_s`.
        """
        if self.frames_end_s is None:
            raise MediaError(ClipState.NO_VIDEO, "the file has no video stream")
        if self.audio_end_s is None:
            raise MediaError(ClipState.NO_AUDIO, "the file has no audio stream")
        shared_s = min(self.frames_end_s, self.audio_end_s) - self.start_s
        if shared_s < min_duration_s:
            held_s = rounded_down(max(0.0, shared_s))
            reason = f"the segment holds {held_s} s of audio and frames, less than {min_duration_s:g} s"
            raise MediaError(ClipState.TOO_SHORT, reason)
        return shared_s


@dataclass(frozen=True)
class DurationRequest:
    """Asks how many seconds a file lasts, by its header or its packets; None where it cannot be opened or is empty."""

    source: str | MediaPath
    timeout_s: float = 60.0  # a header takes milliseconds, the packets of a long file without one seconds

    @property
    def title(self) -> str:
        return f"File {self.source}"
