"""One pass over a clip: its pictures at chosen instants and its sound, both on the container's clock.

Nothing is counted: a picture is chosen because it is on screen at the wanted instant. Which library decodes is a
choice (cavsync.pipeline.decoders); what becomes of its pictures and sound is here, once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import av
import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel, DecoderName
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import MediaFacts
from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.audio import AudioTrack
from cavsync.pipeline.media.container import Container, Span, open_container
from cavsync.pipeline.media.deadline import Deadline
from cavsync.pipeline.media.frame_times import time_s
from cavsync.pipeline.media.frames import Shrinker, is_still, jpeg
from cavsync.pipeline.storage.path import AnyPath, as_path, local_copy


class Backend(Protocol):
    """What decodes an open file, made as `Backend(container)`.

    Both methods raise MediaError, also where the library would show pictures at other times than the container.
    """

    name: str  # with the version, for the index
    opens_path: bool  # itself, so it needs a file on this machine

    def read(self, span: Span, channel: AudioChannel) -> tuple[AudioTrack, float]:
        """The span's sound, and when its last picture leaves the screen, on the container's clock."""
        ...

    def pictures(self, instants: Sequence[float]) -> Iterator[av.VideoFrame]:
        """For each instant of the span that was read, ascending, the frame on screen, with its own time."""
        ...


@dataclass(frozen=True, kw_only=True)
class DecodedClip:
    """Pictures as JPEG and one channel of sound; times are seconds from the clip's start."""

    duration_s: float
    frame_pts_s: np.ndarray  # (num_frames,)
    frames: list[bytes]
    waveform: np.ndarray  # (samples,) float32 at 16 kHz, beginning at the clip's start
    still: bool


@contextmanager
def open_media(source: str | AnyPath, timeout_s: float, decoder: DecoderName = "pyav") -> Iterator["Media"]:
    """The file's streams, closed at the end. Raises MediaError for a file that cannot be read, and StoreError where
    a store fails.

    `timeout_s` is wall clock from here to the end of `decode`.
    """
    deadline, backend = Deadline(timeout_s), backend_class(decoder)
    with _at_hand(source, backend) as file, open_container(file, deadline) as container:
        yield Media(container, backend(container))


@contextmanager
def _at_hand(source: str | AnyPath, backend: Any) -> Iterator[str | AnyPath]:
    """The source as the backend can take it; of one at a URL, PyAV reads what it needs, the others need all."""
    if not backend.opens_path:
        yield source
        return
    try:
        with local_copy(as_path(source)) as path:
            yield path
    except FileNotFoundError as error:
        raise MediaError(ClipState.MISSING, f"{source} is gone since the plan was made") from error


def backend_class(decoder: DecoderName) -> Any:
    """The class of that name; only what is used gets imported."""
    return import_module(f"cavsync.pipeline.media.backends.{decoder}").Decoder


class Media:
    """An open file and the library that decodes it."""

    def __init__(self, container: Container, backend: Backend) -> None:
        self._container, self._backend = container, backend

    @property
    def facts(self) -> MediaFacts:
        return self._container.facts(self._backend.name)

    def decode(self, start_s: float, duration_s: float, config: PrepareConfig) -> DecodedClip:
        """The clip at [start_s, start_s + duration_s) after the file's start, or as much as the file holds.

        A file that ends earlier gives a shorter clip: frames are spread over the part where there is both
        sound and picture. Raises MediaError with the state that the clip ends in.
        """
        self._container.require_both_streams()
        span = Span(self._container.origin_s + start_s, duration_s)
        sound, video_end_s = self._backend.read(span, config.audio_channel)
        held_s = min(duration_s, video_end_s - span.begin_s, sound.end_s)
        if held_s < config.min_duration_s:
            raise MediaError(ClipState.TOO_SHORT, _too_short(held_s, config))
        times_s = frame_times_s(held_s, config.num_frames, config.frame_times, self._container.picture_s)
        pts_s, rgbs = self._pictures_at(span.begin_s, times_s, config)
        return DecodedClip(
            duration_s=float(held_s),
            frame_pts_s=pts_s,
            frames=[jpeg(rgb, config.jpeg_quality) for rgb in rgbs],
            waveform=sound.waveform()[: round(held_s * SAMPLE_RATE_HZ)],
            still=is_still(rgbs),
        )

    def _pictures_at(
        self, begin_s: float, times_s: np.ndarray, config: PrepareConfig
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Times (num_frames,) and RGB pictures on screen at `times_s`, both relative to the clip's start."""
        pts_s: list[float] = []
        rgbs: list[np.ndarray] = []
        shrinker = Shrinker(config.frame_size, config.crop)
        for frame in self._backend.pictures((begin_s + times_s).tolist()):
            self._container.deadline.check()
            begins_s = time_s(frame)
            if begins_s is None:
                raise MediaError(ClipState.DECODE_ERROR, "a picture has no presentation time")
            shown_again = bool(pts_s) and pts_s[-1] == begins_s - begin_s
            rgbs.append(rgbs[-1] if shown_again else shrinker.rgb(frame))
            pts_s.append(begins_s - begin_s)
        if not rgbs:
            raise MediaError(ClipState.DECODE_ERROR, "no picture of the clip could be decoded")
        return np.array(pts_s), rgbs


def _too_short(held_s: float, config: PrepareConfig) -> str:
    if held_s <= 0:
        return "the file ends before the clip begins; was it cut already? (--layout cut)"
    return f"the clip holds {held_s:.2f} s of sound and picture, less than {config.min_duration_s:g} s"
