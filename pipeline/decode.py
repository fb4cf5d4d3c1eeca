"""One pass over a clip: its pictures at chosen instants and its sound, both on the container's clock.

Nothing is counted: a picture is chosen because it is on screen at the wanted instant. Files cut without
re-encoding begin with pictures that an edit list hides; FFmpeg marks those packets and never shows them, whereas
decoders that index pictures return them as if they were the beginning.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from cavsync.pipeline.config import PrepareConfig
from cavsync.pipeline.pictures import Shrinker, is_still, jpeg
from cavsync.pipeline.sampling import frame_times_s
from cavsync.pipeline.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.screen import decoded, on_screen, time_s
from cavsync.pipeline.sound import SoundTrack

DECODER = f"pyav-{av.__version__}"
# A codec's first samples after a seek fade in, so the seek aims a little earlier.
SEEK_MARGIN_S = 0.1
# A stream this far past the clip's end shows that the other one has ended; no muxer interleaves wider.
INTERLEAVE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class MediaFacts:
    """What the file says about itself; the names are columns of the index."""

    decoder: str
    video_codec: str | None
    audio_codec: str | None
    width: int | None
    height: int | None
    fps: float | None
    sample_rate_hz: int | None
    num_channels: int | None


@dataclass(frozen=True, kw_only=True)
class DecodedClip:
    """Pictures as JPEG and one channel of sound; times are seconds from the clip's start."""

    duration_s: float
    frame_pts_s: np.ndarray  # (num_frames,)
    frames: list[bytes]
    waveform: np.ndarray  # (samples,) float32 at 16 kHz, beginning at the clip's start
    still: bool


@dataclass
class _Demuxed:
    """A clip's coded pictures in decoding order, its sound already decoded."""

    sound: SoundTrack
    packets: list[Any] = field(default_factory=list)
    video_end_s: float = 0.0  # from the clip's start


@contextmanager
def open_media(path: str | Path, timeout_s: float) -> Iterator["Media"]:
    """The file's streams, closed at the end. Raises MediaError for a file that no demuxer reads.

    `timeout_s` is wall clock from here to the end of `decode`.
    """
    try:
        with av.open(str(path), timeout=timeout_s, metadata_errors="replace") as container:
            yield Media(container, timeout_s)
    except FileNotFoundError as error:
        raise MediaError(ClipState.MISSING, f"{path} is gone since the plan was made") from error
    except av.error.ExitError as error:  # reading itself took too long
        raise _too_slow(timeout_s) from error
    except av.error.FFmpegError as error:
        raise MediaError(ClipState.DECODE_ERROR, _in_words(error)) from error


class Media:
    """An open file with at most one stream of pictures and one of sound in use."""

    def __init__(self, container: Any, timeout_s: float) -> None:
        self._container, self._timeout_s = container, timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._video = _main_video(container)
        self._audio = container.streams.best("audio")
        self._origin_s = (container.start_time or 0) / av.time_base
        for stream in filter(None, (self._video, self._audio)):
            if stream.codec_context is None:
                raise MediaError(ClipState.DECODE_ERROR, f"no decoder for the {stream.type} stream's codec")
            stream.codec_context.thread_count = 1  # the runner gives each worker one core

    @property
    def facts(self) -> MediaFacts:
        video = self._video and self._video.codec_context
        audio = self._audio and self._audio.codec_context
        return MediaFacts(
            decoder=DECODER,
            video_codec=video and video.codec.canonical_name,
            audio_codec=audio and audio.codec.canonical_name,
            width=video and video.width,
            height=video and video.height,
            fps=1 / self._picture_s if video else None,
            sample_rate_hz=audio and audio.sample_rate,
            num_channels=audio and audio.channels,
        )

    def decode(self, start_s: float, duration_s: float, config: PrepareConfig) -> DecodedClip:
        """The clip at [start_s, start_s + duration_s) after the file's start, or as much as the file holds.

        A file that ends earlier gives a shorter clip: frames are spread over the part where there is both
        sound and picture. Raises MediaError with the state that the clip ends in.
        """
        if self._video is None:
            raise MediaError(ClipState.NO_VIDEO, "the file has no stream of pictures")
        if self._audio is None:
            raise MediaError(ClipState.NO_AUDIO, "the file has no stream of sound")
        begin_s = self._origin_s + start_s
        clip = self._demux(begin_s, duration_s, config)
        held_s = min(duration_s, clip.video_end_s, clip.sound.end_s)
        if held_s < config.min_duration_s:
            raise MediaError(ClipState.TOO_SHORT, _too_short(held_s, config))
        times_s = frame_times_s(held_s, config.num_frames, config.frame_times, self._picture_s)
        pts_s, rgbs = self._pictures_at(clip, begin_s, times_s, config)
        return DecodedClip(
            duration_s=float(held_s),
            frame_pts_s=pts_s,
            frames=[jpeg(rgb, config.jpeg_quality) for rgb in rgbs],
            waveform=clip.sound.waveform()[: round(held_s * SAMPLE_RATE_HZ)],
            still=is_still(rgbs),
        )

    @property
    def _picture_s(self) -> float:
        rate = self._video.average_rate or self._video.base_rate
        return 1 / float(rate) if rate else 0.04

    def _demux(self, start_s: float, duration_s: float, config: PrepareConfig) -> _Demuxed:
        """Read both streams once, from the keyframe before `start_s` (on the container's clock)."""
        clip = _Demuxed(SoundTrack(start_s, duration_s, config.audio_channel))
        stop_s = start_s + duration_s
        if start_s > self._origin_s:
            aim_s = max(self._origin_s, start_s - SEEK_MARGIN_S)
            self._container.seek(int(aim_s / self._video.time_base), stream=self._video)
        ended = {self._video.index: False, self._audio.index: False}
        for packet in self._container.demux(self._video, self._audio):
            self._check_deadline()
            read_s = float((packet.dts or 0) * packet.time_base)
            ended[packet.stream_index] |= packet.dts is not None and read_s >= stop_s
            if all(ended.values()) or read_s >= stop_s + INTERLEAVE_S:
                break
            if packet.stream_index == self._audio.index:
                for frame in packet.decode():
                    clip.sound.add(frame)
            elif packet.size and not ended[packet.stream_index]:
                clip.packets.append(packet)
                clip.video_end_s = max(clip.video_end_s, self._shown_until_s(packet) - start_s)
        return clip

    def _pictures_at(
        self, clip: _Demuxed, start_s: float, times_s: np.ndarray, config: PrepareConfig
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Times (num_frames,) and RGB pictures on screen at `times_s`, both relative to the clip's start."""
        pts_s: list[float] = []
        rgbs: list[np.ndarray] = []
        shrinker = Shrinker(config.frame_size, config.crop)
        instants = (start_s + times_s).tolist()
        for frame in on_screen(self._decoded(clip.packets, instants), instants):
            begins_s = time_s(frame)
            if begins_s is None:
                raise MediaError(ClipState.DECODE_ERROR, "a picture has no presentation time")
            shown_again = bool(pts_s) and pts_s[-1] == begins_s - start_s
            rgbs.append(rgbs[-1] if shown_again else shrinker.rgb(frame))
            pts_s.append(begins_s - start_s)
        if not rgbs:
            raise MediaError(ClipState.DECODE_ERROR, "no picture of the clip could be decoded")
        return np.array(pts_s), rgbs

    def _decoded(self, packets: list[Any], instants: list[float]) -> Iterator[av.VideoFrame]:
        for frame in decoded(self._video, packets, instants):
            self._check_deadline()
            yield frame

    def _check_deadline(self) -> None:
        if time.monotonic() > self._deadline:
            raise _too_slow(self._timeout_s)

    def _shown_until_s(self, packet: Any) -> float:
        """When the picture leaves the screen, on the container's clock; -inf if it is never shown."""
        begins_s = time_s(packet)
        if packet.is_discard or begins_s is None:
            return -math.inf
        held_s = float(packet.duration * packet.time_base) if packet.duration else self._picture_s
        return begins_s + held_s


def _main_video(container: Any) -> Any:
    """The stream that a player shows; cover art is no video."""
    stream = container.streams.best("video")
    is_cover = stream is not None and bool(stream.disposition & Disposition.attached_pic)
    return None if is_cover else stream


def _too_short(held_s: float, config: PrepareConfig) -> str:
    if held_s <= 0:
        return "the file ends before the clip begins; was it cut already? (--layout cut)"
    return f"the clip holds {held_s:.2f} s of sound and picture, less than {config.min_duration_s:g} s"


def _too_slow(timeout_s: float) -> MediaError:
    return MediaError(ClipState.TIMEOUT, f"not decoded within {timeout_s:g} s")


def _in_words(error: av.error.FFmpegError) -> str:
    """FFmpeg's message, and what the library logged last, without the path, which the index has."""
    log: Any = error.log  # (level, module, message)
    logged = f" ({log[2].strip()})" if log else ""
    return f"FFmpeg: {error.strerror}{logged}"
