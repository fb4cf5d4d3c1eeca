"""Decodes one clip: its frames at chosen instants and its audio, both on the container's clock.

Nothing is counted: a frame is chosen because it is on screen at the wanted instant. A backend (backends/) decodes;
what becomes of its frames and audio is here, once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import MediaFacts
from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.audio import AudioTrack
from cavsync.pipeline.media.container import Container, Span
from cavsync.pipeline.media.frame_images import FrameScaler, is_still, jpeg
from cavsync.pipeline.media.frame_selection import time_s


class Backend(Protocol):
    """A library that decodes an open file.

    Both methods raise MediaError, also where the library would show frames at other times than the container.
    """

    name: str  # with the version, for the index
    opens_path: bool  # itself, so it needs a file on this machine

    def __init__(self, container: Container) -> None: ...

    def read(self, span: Span, channel: AudioChannel) -> tuple[AudioTrack, float]:
        """The span's audio, and when its last frame leaves the screen, on the container's clock."""
        ...

    def frames(self, instants: Sequence[float]) -> Iterator[av.VideoFrame]:
        """For each instant of the span that was read, ascending, the frame on screen, with its own time."""
        ...


@dataclass(frozen=True, kw_only=True)
class DecodedClip:
    """Frames as JPEG and one channel of audio; times are seconds from the clip's start."""

    duration_s: float
    frame_pts_s: np.ndarray  # (num_frames,)
    frames: list[bytes]
    waveform: np.ndarray  # (samples,) float32 at 16 kHz, beginning at the clip's start
    still: bool


class ClipDecoder:
    """An open file and the library that decodes it."""

    def __init__(self, container: Container, backend: Backend) -> None:
        self._container, self._backend = container, backend

    @property
    def facts(self) -> MediaFacts:
        return self._container.facts(self._backend.name)

    def decode(self, start_s: float, duration_s: float, config: PrepareConfig) -> DecodedClip:
        """The clip at [start_s, start_s + duration_s) after the file's start, or as much as the file holds.

        A file that ends earlier gives a shorter clip: frames are spread over the part where there are both
        audio and frames. Raises MediaError with the state that the clip ends in.
        """
        self._container.require_both_streams()
        span = Span(self._container.origin_s + start_s, duration_s)
        audio, video_end_s = self._backend.read(span, config.audio_channel)
        shared_s = min(duration_s, video_end_s - span.begin_s, audio.end_s)
        if shared_s < config.min_duration_s:
            raise MediaError(ClipState.TOO_SHORT, _too_short(shared_s, config))
        times_s = frame_times_s(
            shared_s, config.num_frames, config.frame_times, self._container.frame_duration_s
        )
        pts_s, images = self._frames(span.begin_s, times_s, config)
        return DecodedClip(
            duration_s=float(shared_s),
            frame_pts_s=pts_s,
            frames=[jpeg(image, config.jpeg_quality) for image in images],
            waveform=audio.waveform()[: round(shared_s * SAMPLE_RATE_HZ)],
            still=is_still(images),
        )

    def _frames(
        self, begin_s: float, times_s: np.ndarray, config: PrepareConfig
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Times (num_frames,) and RGB images of what is on screen at `times_s`, both relative to the clip's start."""
        scaler = FrameScaler(config.frame_size, config.crop)
        found = list(frames_at((begin_s + times_s).tolist(), self._backend, self._container, scaler))
        if not found:
            raise MediaError(ClipState.DECODE_ERROR, "no frame of the clip could be decoded")
        return np.array([pts_s - begin_s for pts_s, _ in found]), [image for _, image in found]


def frames_at(
    instants: Sequence[float], backend: Backend, container: Container, scaler: FrameScaler
) -> Iterator[tuple[float, np.ndarray]]:
    """For each instant, ascending, when the frame on screen began, and that frame as RGB (height, width, 3) uint8.

    All times are on the container's clock. A frame that is still on screen is yielded as the same array again.
    """
    last: tuple[float, np.ndarray] | None = None
    for frame in backend.frames(instants):
        container.deadline.check()
        begins_s = time_s(frame)
        if begins_s is None:
            raise MediaError(ClipState.DECODE_ERROR, "a frame has no presentation time")
        if last is None or last[0] != begins_s:
            last = begins_s, scaler.rgb(frame)
        yield last


def _too_short(shared_s: float, config: PrepareConfig) -> str:
    if shared_s <= 0:
        return "the file ends before the clip begins; was it cut already? (--layout cut)"
    return f"the clip holds {shared_s:.2f} s of audio and frames, less than {config.min_duration_s:g} s"
