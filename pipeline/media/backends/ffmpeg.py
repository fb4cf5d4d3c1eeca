"""The ffmpeg program through ffmpeg-python: uncoded frames and samples in a pipe, with their times.

The pipe carries NUT, which keeps every frame's own time on the container's clock; PyAV reads it back. The
packets say which frames are needed, so only those are sent, selected by their exact times.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import av
import av.error
import ffmpeg

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.media.audio_track import AudioTrack
from cavsync.pipeline.media.backends.ffmpeg_program import ffmpeg_version, output_of
from cavsync.pipeline.media.backends.timing import first_orientation, require_frame_times, timing_error
from cavsync.pipeline.media.demuxing.clock import Span, time_s
from cavsync.pipeline.media.demuxing.coded_span import AUDIO_TAIL_S, CodedFrames, SpanReader
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.opened_file import CODEC_OPTIONS, OPEN_OPTIONS, url
from cavsync.pipeline.media.frame_selection import SAME_INSTANT_S, TimedFrame, needed_times_s, on_screen

# A damaged packet ends the clip, as with PyAV, instead of being left out.
QUIET = ["-nostdin", "-v", "error", "-xerror", "-filter_complex_threads", "1"]


class FfmpegDecoder:
    opens_path = True

    def __init__(self, container: Container) -> None:
        self.name = f"ffmpeg-{ffmpeg_version()}"
        self._container = container
        self._coded = CodedFrames()
        self.failure: str | None = None
        self.frame_gaps_s: list[tuple[float, float]] = []

    def read(self, span: Span, channel: AudioChannel, keeps_stereo: bool = False) -> AudioTrack:
        require_frame_times(self.name, self._container)
        self._span = span
        self._coded = SpanReader(self._container, span).read(_NoSink()) or CodedFrames()
        if not self._coded.are_timed:
            raise timing_error(self.name, "its packets do not say when frames are shown")
        self._orientation = first_orientation(self._container)
        track = AudioTrack(span, channel, keeps_stereo)
        samples = self._input(self._container.audio).filter("atrim", end=_plain(span.end_s + AUDIO_TAIL_S))
        for frame in self._decoded(samples, acodec="pcm_f32le"):
            track.add(frame)
        self.frames_begin_s, self.frames_end_s = self._coded.begin_s, self._coded.end_s
        return track

    def frames(self, instants: Sequence[float]) -> Iterator[TimedFrame | None]:
        needed = needed_times_s(self._coded.begins_s, instants)
        if not needed:
            return repeat(None, len(instants))
        video = self._input(self._container.video).filter("trim", end=_plain(self._span.end_s))
        video = video.filter("select", self._is_one_of(needed))
        frames = self._decoded(video, vcodec="rawvideo", fps_mode="passthrough", enc_time_base="demux")
        return on_screen(self._checked(frames, needed), instants)

    def _is_one_of(self, times_s: set[float]) -> str:
        """An expression of ffmpeg's `select` that is true for the frames of these times."""
        ticks = sorted(round(time_s / self._container.video.time_base) for time_s in times_s)
        return "+".join(f"eq(pts,{tick})" for tick in ticks)

    def _checked(self, frames: Iterator[av.VideoFrame], needed: set[float]) -> Iterator[TimedFrame]:
        """The frames, each at a needed time, all of them."""
        missing = sorted(needed)
        coded = self._container.video.codec_context
        for frame in frames:
            frame.colorspace, frame.color_range = coded.colorspace, coded.color_range  # the pipe drops them
            begins_s = time_s(frame) or 0.0
            if missing and abs(begins_s - missing[0]) <= SAME_INSTANT_S:
                del missing[0]
            yield TimedFrame(begins_s, frame, self._orientation)  # the program has turned it
        if missing:
            shown_s = missing[0] - self._container.origin_s
            raise timing_error(
                self.name, f"it shows no frame at {shown_s:.3f} s, where the container has one"
            )

    def _input(self, stream: Any) -> Any:
        """The stream from the keyframe before the span on, times kept as they are."""
        options, entry_s = OPEN_OPTIONS | CODEC_OPTIONS | {"threads": "1"}, self._coded.entry_s
        if entry_s is not None:
            options |= {"ss": _plain(entry_s - self._container.origin_s)}
        source = ffmpeg.input(url(self._container.path), copyts=None, noaccurate_seek=None, **options)
        return source[str(stream.index)]

    def _decoded(self, stream: Any, **encoding: Any) -> Iterator[Any]:
        """What the stream decodes to, frame by frame."""
        output = stream.output("pipe:1", format="nut", avoid_negative_ts="disabled", **encoding)
        with output_of([*QUIET, *ffmpeg.get_args(output)], self._container.deadline) as pipe:
            try:
                with av.open(pipe, "r", format="nut") as raw:
                    yield from raw.decode(raw.streams[0])
            except av.error.FFmpegError:
                return  # an empty pipe, or one that ends early: the program's exit code says why


class _NoSink:
    """The program decodes the audio itself."""

    def restart(self) -> None:
        pass

    def add(self, packet: Any) -> None:
        pass


def _plain(seconds: float) -> str:
    """The number without an exponent, which ffmpeg's times do not know."""
    return f"{seconds:.6f}"
