"""Opens a media file: its streams, its facts, its clock, and its coded packets from any instant on; decodes nothing.

Times come from here, whichever library decodes. Files cut without re-encoding begin with frames that an edit
list hides; FFmpeg marks those packets and never shows them.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Discard

from cavsync.pipeline.dataset.index_row import MediaFacts
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.demuxing.deadline import Deadline
from cavsync.pipeline.media.demuxing.file_part import FilePart, TimedPart
from cavsync.pipeline.media.demuxing.formats import content_that_is_no_media, refusal
from cavsync.pipeline.media.demuxing.opened_file import (
    CODEC_OPTIONS,
    MAX_PIXELS,
    indexed_end_s,
    main_stream,
    main_video,
    message,
    opened,
)
from cavsync.pipeline.storage.path import MediaPath

# Codecs that store frames out of order whether or not the decoder has noticed yet.
REORDERED = {"h264", "hevc"}
# Codecs of which FFmpeg takes every packet for a keyframe, and the formats in which it does.
UNKNOWN_KEYFRAMES, BY_ITS_PARSER = {"h261", "h263"}, {"avi", "matroska,webm"}
# Formats without a header of their length: FFmpeg guesses it from the size and the first packets' bit rate.
GUESSED_LENGTH = {"mp3", "aac", "ac3", "eac3", "dts", "amr", "loas"}
# Formats whose header says when the file ends. That is how long it lasts only where it begins at 0.
SAYS_END = {"matroska,webm", "asf", "nut"}
# Formats in which a stream's times of decoding rise, unless another file was appended; FFmpeg reads on into that one where
# the format has no header, or packets come in fragments that each have theirs.
RESTARTING = {"mpegts", "mpeg", "mov,mp4,m4a,3gp,3g2,mj2", "nut", "rm"}
# A beginning this late makes a difference.
LATE_S = 1.0
# After so many failed reads in a row the rest of a file is given up: a demuxer skips what a cut file lacks.
MOST_READ_ERRORS = 100


class Container(AbstractContextManager["Container"]):
    """An open file with at most one video and one audio stream in use."""

    video: Any
    audio: Any

    def __init__(self, source: MediaPath | FilePart, deadline: Deadline, audio_only: bool = False) -> None:
        self.timeline: tuple[TimedPart, ...] = ()  # of a file that was joined; this is its first part
        self._source, self.deadline, self._audio_only = source, deadline, audio_only
        self._stack, self._parts = ExitStack(), ExitStack()
        self._open()
        self.origin_s = (self._opened.start_time or 0) / av.time_base

    def __exit__(self, *_: object) -> None:
        self._parts.close()
        self._stack.close()

    def _open(self) -> None:
        try:
            self._opened = self._stack.enter_context(opened(self._source, self.deadline.left_s))
        except av.error.ArgumentError as error:  # its format is none of FORMATS
            if isinstance(self._source, FilePart):
                raise
            raise MediaError(ClipState.DECODE_ERROR, refusal(None, self._source)) from error
        except av.error.InvalidDataError as error:
            content = None if isinstance(self._source, FilePart) else content_that_is_no_media(self._source)
            raise MediaError(ClipState.DECODE_ERROR, content or message(error)) from error
        self._is_at_first_packet = True
        self.video = None if self._audio_only else main_video(self._opened)
        self.audio = main_stream(self._opened, self._opened.streams.audio)
        for stream in self._opened.streams:
            stream.discard = Discard.default if stream in self.streams else Discard.all
        for stream in self.streams:
            if stream.codec_context is None:
                raise MediaError(ClipState.DECODE_ERROR, f"no decoder for the {stream.type} stream's codec")
            stream.codec_context.options = dict(CODEC_OPTIONS)
            stream.codec_context.thread_count = 1  # the runner gives each worker one core

    @property
    def streams(self) -> list[Any]:
        """The streams in use, video first."""
        return [stream for stream in (self.video, self.audio) if stream is not None]

    @property
    def format_name(self) -> str:
        """FFmpeg's name of the demuxer."""
        name: str = self._opened.format.name
        return name

    def open_part(self, part: FilePart) -> "Container":
        """A part of the file, open as long as this container is."""
        return self._parts.enter_context(Container(part, self.deadline, self._audio_only))

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
        if not self.streams:
            raise MediaError(ClipState.DECODE_ERROR, "the file has neither video nor audio")
        if self.video is not None:
            self._require_size()

    def _require_size(self) -> None:
        width, height = self.video.codec_context.width, self.video.codec_context.height
        if not 0 < width * height <= MAX_PIXELS:  # FFmpeg says 0 where it refuses the size itself
            reason = f"the frames have no size, or one beyond 4K ({MAX_PIXELS:,} pixels)"
            raise MediaError(ClipState.DECODE_ERROR, reason)

    def facts(self, decoder: str) -> MediaFacts:
        """What the file says of its streams; the display facts are the decoded frames'."""
        video = self.video and self.video.codec_context
        audio = self.audio and self.audio.codec_context
        return MediaFacts(
            decoder=decoder,
            video_codec=video and video.codec.canonical_name,
            audio_codec=audio and audio.codec.canonical_name,
            width=video and video.width,
            height=video and video.height,
            fps=1 / self.frame_duration_s if video else None,
            sample_aspect_ratio=float(self.sample_aspect_ratio) if video else None,
            sample_rate_hz=audio and audio.sample_rate,
            num_channels=audio and audio.channels,
        )

    @property
    def sample_aspect_ratio(self) -> Fraction:
        """The shape of a pixel as it is shown, width to height; 1 where the file does not say."""
        ratio: Fraction | None = self.video.sample_aspect_ratio
        return ratio or Fraction(1)

    @property
    def has_frame_times(self) -> bool:
        """Whether the file says when frames are shown. AVI does not; what FFmpeg guesses is wrong by a frame or two
        for codecs that store frames out of order, and these packets have their positions as times."""
        codec = self.video.codec_context
        is_reordered = codec.has_b_frames or codec.codec.canonical_name in REORDERED
        return self.format_name != "avi" or not is_reordered

    @property
    def guesses_times(self) -> bool:
        """Whether FFmpeg guesses the times of the first packets after a seek."""
        return bool(self.format_name == "ogg")

    @property
    def may_restart(self) -> bool:
        """Whether times that fall back are those of another file, joined byte by byte."""
        return self.format_name in RESTARTING

    @property
    def has_keyframes(self) -> bool:
        """Whether video packets that are marked as keyframes are keyframes."""
        name = self.video.codec_context.codec.canonical_name if self.video else None
        return name not in UNKNOWN_KEYFRAMES or self.format_name not in BY_ITS_PARSER

    @property
    def has_palette(self) -> bool:
        """Whether colours are numbers of a palette, which comes with the first packet and never after a seek."""
        return self.video is not None and self.video.codec_context.pix_fmt == "pal8"

    @property
    def frame_duration_s(self) -> float:
        """How long a frame is usually shown."""
        rate: Fraction | None = self.video.average_rate or self.video.base_rate
        return 1 / float(rate) if rate else 0.04

    def begin_s(self, stream: Any) -> float:
        """When the stream begins, on the container's clock, as the file's first packets say."""
        known = stream.start_time is not None
        return float(stream.start_time * stream.time_base) if known else self.origin_s

    def end_s(self, stream: Any) -> float | None:
        """When the stream ends, on the container's clock, where the file has an index of all its packets."""
        if not self.format_name.startswith("mov,") or not stream.duration or not stream.frames:
            return None
        return self.begin_s(stream) + float(stream.duration * stream.time_base)

    @property
    def header_duration_s(self) -> float | None:
        """How long the file lasts as its header says; None where it does not, and for a guess."""
        if self.timeline:
            return self.timeline[-1].end_s - self.origin_s
        duration, name = self._opened.duration, self.format_name
        is_end = name in SAYS_END and self.origin_s > LATE_S
        if duration is None or is_end or name in GUESSED_LENGTH:
            return None
        ends_s = [indexed_end_s(stream) for stream in self.streams] if name == "avi" else []
        header_s: float = duration / av.time_base
        return min(header_s, max(ends_s, default=math.inf))

    def enter(self, at_s: float | None) -> bool:
        """Go to where reading from `at_s` should begin, None for the first packet. False where the file cannot seek."""
        for stream in self.streams:
            stream.discard = Discard.default
        if at_s is None:
            if not self._is_at_first_packet:
                self._stack.close()
                self._open()
            return True
        first = self.streams[0]
        self._is_at_first_packet = False
        try:
            self._opened.seek(int(at_s / first.time_base), stream=first)
        except av.error.ExitError:
            raise
        except av.error.FFmpegError:
            return False
        return True

    def packets_from(self, byte: int) -> Iterator[Any]:
        """The packets from about that byte of the file on."""
        self._is_at_first_packet = False
        self._opened.seek(byte, unsupported_byte_offset=True)
        yield from self.packets()

    def packets(self) -> Iterator[Any]:
        """The packets of the streams in use, in the file's order, to its end or to where it cannot be read."""
        num_errors, untimed = 0, None if self.video is None or self.has_frame_times else self.video.index
        self._is_at_first_packet = False
        while num_errors < MOST_READ_ERRORS:
            try:
                for packet in self._opened.demux(*self.streams):
                    self.deadline.check()
                    num_errors = 0
                    if packet.size:  # the empty ones at the end flush decoders
                        if packet.stream_index == untimed:
                            packet.pts = packet.dts
                        yield packet
                return
            except av.error.ExitError:
                raise
            except av.error.FFmpegError:
                num_errors += 1
