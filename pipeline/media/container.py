"""Opens a media file and reads its streams, facts, clock and coded packets; decodes nothing.

Times come from here, whichever library decodes. Files cut without re-encoding begin with frames that an edit
list hides; FFmpeg marks those packets and never shows them.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Disposition

from cavsync.pipeline.dataset.index_row import MediaFacts
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.deadline import Deadline
from cavsync.pipeline.media.frame_selection import time_s
from cavsync.pipeline.storage.path import AnyPath, as_path

# A codec's first samples after a seek fade in, so the seek aims a little earlier.
SEEK_MARGIN_S = 0.1
# A stream this far past the clip's end shows that the other one has ended; no muxer interleaves wider.
INTERLEAVE_S = 5.0
# A frame of 4K. A few bytes of a broken header can claim a hundred times more, and decoders believe them.
MAX_PIXELS = 4096 * 2304
# What a downloaded or recorded video may be. FFmpeg also opens play lists and scripts, whatever their suffix,
# and those name other files and addresses to read.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mp3,wav,flac,aac"
OPEN_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
CODEC_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
# Codecs that store frames out of order, which an AVI cannot say.
REORDERED = {"h264", "hevc"}


@dataclass(frozen=True)
class Span:
    """[begin_s, begin_s + duration_s) of the file on the container's clock, in seconds."""

    begin_s: float
    duration_s: float

    @property
    def end_s(self) -> float:
        return self.begin_s + self.duration_s


@dataclass
class CodedFrames:
    """The video packets that a span needs, in decoding order."""

    packets: list[Any] = field(default_factory=list)
    end_s: float = -math.inf  # when the last frame leaves the screen, on the container's clock


def url(path: str | Path) -> str:
    """How FFmpeg takes any path for a path, also one with a colon or a leading dash."""
    return f"file:{path}"


@contextmanager
def opened(source: str | AnyPath, timeout_s: float) -> Iterator[Any]:
    """A file as PyAV opens it. Raises StoreError where a store fails, at any time, and what PyAV raises."""
    where, options = as_path(source), OPEN_OPTIONS | CODEC_OPTIONS
    begin = partial(av.open, mode="r", timeout=timeout_s, options=options, metadata_errors="replace")
    if isinstance(where, Path):
        with begin(url(where)) as media:
            yield media
        return
    with where.open("rb") as file:
        try:
            with begin(file) as media:
                yield media
        finally:
            # FFmpeg may take a failed read for the end of the file, and a part of the clip for all of it.
            if file.failure is not None:
                raise file.failure


@contextmanager
def open_container(
    source: str | AnyPath, deadline: Deadline, *, audio_only: bool = False
) -> Iterator["Container"]:
    """The file, closed at the end; `audio_only` leaves its video stream aside.

    Raises MediaError for a file that no demuxer reads, also from within; StoreError where a store fails.
    """
    try:
        with opened(source, deadline.left_s) as media:
            yield Container(as_path(source), media, deadline, audio_only)
    except FileNotFoundError as error:
        raise MediaError(ClipState.MISSING, f"{source} is gone since the plan was made") from error
    except av.error.ExitError as error:  # reading itself took too long
        raise deadline.passed() from error
    except av.error.FFmpegError as error:
        raise MediaError(ClipState.DECODE_ERROR, _message(error)) from error


class Container:
    """An open file with at most one video and one audio stream in use."""

    def __init__(self, source: AnyPath, opened: Any, deadline: Deadline, audio_only: bool) -> None:
        self._source, self.deadline, self._opened = source, deadline, opened
        self.video: Any = None if audio_only else _main_video(opened)
        self.audio = opened.streams.best("audio")
        self.origin_s = (opened.start_time or 0) / av.time_base
        for stream in filter(None, (self.video, self.audio)):
            if stream.codec_context is None:
                raise MediaError(ClipState.DECODE_ERROR, f"no decoder for the {stream.type} stream's codec")
            stream.codec_context.options = dict(CODEC_OPTIONS)
            stream.codec_context.thread_count = 1  # the runner gives each worker one core

    @property
    def path(self) -> Path:
        """The file on this machine, for a backend that opens it itself; such a backend gets no file at a URL."""
        assert isinstance(self._source, Path)
        return self._source

    def require_both_streams(self) -> None:
        """Raises MediaError with the state that a file without video or audio ends in."""
        if self.video is None:
            raise MediaError(ClipState.NO_VIDEO, "the file has no video stream")
        self.require_audio()
        self._require_size()

    def require_audio(self) -> None:
        """Raises MediaError for a file without audio."""
        if self.audio is None:
            raise MediaError(ClipState.NO_AUDIO, "the file has no audio stream")

    def require_a_stream(self) -> None:
        """Raises MediaError for a file with neither video nor audio."""
        if self.video is None and self.audio is None:
            raise MediaError(ClipState.DECODE_ERROR, "the file has neither video nor audio")
        if self.video is not None:
            self._require_size()

    def _require_size(self) -> None:
        width, height = self.video.codec_context.width, self.video.codec_context.height
        if not 0 < width * height <= MAX_PIXELS:  # FFmpeg says 0 where it refuses the size itself
            reason = f"the frames have no size, or one beyond 4K ({MAX_PIXELS:,} pixels)"
            raise MediaError(ClipState.DECODE_ERROR, reason)

    def facts(self, decoder: str) -> MediaFacts:
        video = self.video and self.video.codec_context
        audio = self.audio and self.audio.codec_context
        return MediaFacts(
            decoder=decoder,
            video_codec=video and video.codec.canonical_name,
            audio_codec=audio and audio.codec.canonical_name,
            width=video and video.width,
            height=video and video.height,
            fps=1 / self.frame_duration_s if video else None,
            sample_rate_hz=audio and audio.sample_rate,
            num_channels=audio and audio.channels,
        )

    @property
    def has_frame_times(self) -> bool:
        """Whether the file says when frames are shown. AVI does not; what FFmpeg guesses is wrong by a frame or two
        for codecs that store frames out of order, and these packets have their positions as times."""
        return (
            self._opened.format.name != "avi"
            or self.video.codec_context.codec.canonical_name not in REORDERED
        )

    @property
    def frame_duration_s(self) -> float:
        """How long a frame is usually shown."""
        rate: Fraction | None = self.video.average_rate or self.video.base_rate
        return 1 / float(rate) if rate else 0.04

    def seek_s(self, span: Span) -> float | None:
        """Where reading for `span` should begin; None for the file's beginning."""
        if span.begin_s <= self.origin_s:
            return None
        return max(self.origin_s, span.begin_s - SEEK_MARGIN_S)

    def demux(self, span: Span, on_audio: Callable[[Any], None]) -> CodedFrames:
        """Read the streams once, from the keyframe before `span`; `on_audio` gets the audio packets."""
        coded = CodedFrames()
        streams = [stream for stream in (self.video, self.audio) if stream is not None]
        seek_s = self.seek_s(span)
        if seek_s is not None:
            self._opened.seek(int(seek_s / streams[0].time_base), stream=streams[0])
        ended = {stream.index: False for stream in streams}
        tick_s = {stream.index: float(stream.time_base) for stream in streams}
        for packet in self._opened.demux(*streams):
            self.deadline.check()
            if packet.stream_index not in ended:
                continue  # the empty packets at the file's end say stream 0, whichever they belong to
            read_s = (packet.dts or 0) * tick_s[packet.stream_index]
            ended[packet.stream_index] |= packet.dts is not None and read_s >= span.end_s
            if all(ended.values()) or read_s >= span.end_s + INTERLEAVE_S:
                break
            if self.audio is not None and packet.stream_index == self.audio.index:
                on_audio(packet)
            elif packet.size and not ended[packet.stream_index]:
                if not self.has_frame_times:
                    packet.pts = packet.dts
                coded.packets.append(packet)
                coded.end_s = max(coded.end_s, self._shown_until_s(packet))
        return coded

    def video_packets(self) -> Iterator[Any]:
        """Every video packet of the file. To be read on its own, before any `demux`."""
        for packet in self._opened.demux(self.video):
            self.deadline.check()
            if packet.size:
                yield packet

    def _shown_until_s(self, packet: Any) -> float:
        """When the frame leaves the screen, on the container's clock; -inf if it is never shown."""
        begins_s = time_s(packet)
        if packet.is_discard or begins_s is None:
            return -math.inf
        held_s = float(packet.duration * packet.time_base) if packet.duration else self.frame_duration_s
        return begins_s + held_s


def _main_video(opened: Any) -> Any:
    """The stream that a player shows; cover art is no video."""
    stream = opened.streams.best("video")
    is_cover = stream is not None and bool(stream.disposition & Disposition.attached_pic)
    return None if is_cover else stream


def _message(error: av.error.FFmpegError) -> str:
    """FFmpeg's message, and what the library logged last, without the path, which the index has."""
    log: Any = error.log  # (level, module, message)
    logged = f" ({log[2].strip()})" if log else ""
    return f"FFmpeg: {error.strerror}{logged}"
