"""PyAV, the default: FFmpeg's libraries in this process, every frame with its own time."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import av
import av.error

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.media.audio_track import AudioTrack
from cavsync.pipeline.media.closed_groups import ClosedGroups
from cavsync.pipeline.media.demuxing.clock import Span, clock, time_s
from cavsync.pipeline.media.demuxing.coded_span import CodedFrames, SpanReader
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.opened_file import message
from cavsync.pipeline.media.frame_selection import (
    CAN_SKIP,
    SAME_INSTANT_S,
    TimedFrame,
    needed_times_s,
    on_screen,
)

# Audio that ends so far before a span is decoded, where the codec needs it, but not kept.
KEPT_S = 10.0


class PyAvDecoder:
    name = f"pyav-{av.__version__}"
    opens_path = False

    def __init__(self, container: Container) -> None:
        self._container = container
        self.failure: str | None = None
        self.frame_gaps_s: list[tuple[float, float]] = []

    @cached_property
    def _time_s(self) -> Callable[[Any], float | None]:
        """When a packet or image of the video is presented; PyAV leaves the time base open of images that it flushes."""
        return clock(self._container.video.time_base)

    def read(self, span: Span, channel: AudioChannel, keeps_stereo: bool = False) -> AudioTrack:
        self._reader = SpanReader(self._container, span)
        audio = _AudioDecoder(AudioTrack(span, channel, keeps_stereo))
        self._coded = self._reader.read(audio) or CodedFrames()
        self.frames_begin_s, self.frames_end_s = self._coded.begin_s, self._coded.end_s
        self.failure = audio.failure
        return audio.track

    def frames(self, instants: Sequence[float]) -> Iterator[TimedFrame | None]:
        while True:
            self.frame_gaps_s = []
            shown = on_screen(self._noted(self._decoded(instants)), instants)
            first = next(shown)
            if first is not None or self._coded.begin_s > instants[0] + SAME_INSTANT_S:
                break
            # The decoder shows nothing of what the keyframe promised.
            earlier = self._reader.read(None)
            if earlier is None:
                break
            self._coded = earlier
        return chain([first], shown)

    def _noted(self, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
        """The same frames; the first says when there are any."""
        for number, frame in enumerate(frames):
            if number == 0:
                self.frames_begin_s = max(self.frames_begin_s, frame.begins_s)
            yield frame

    def _decoded(self, instants: Sequence[float]) -> Iterator[TimedFrame]:
        """The frames in order of presentation; those that no instant shows may be left out."""
        coded, codec = self._coded, self._container.video.codec_context
        positions_s = self._positions_s()
        if positions_s is not None:
            yield from map(TimedFrame, positions_s, self._images())
            return
        if coded.are_timed and codec.codec.canonical_name in CAN_SKIP:
            yield from self._skipping(needed_times_s(coded.begins_s, instants))
        else:
            yield from self._timed()

    def _skipping(self, needed_s: set[float]) -> Iterator[TimedFrame]:
        """At least the frames of these times. A stream may store frames farther out of order than it says; then the decoder
        drops some of those that it was asked for, and all are decoded from there on.
        """
        due_s, reached_s = deque(sorted(needed_s)), -math.inf
        for frame in self._timed(needed_s):
            if due_s and due_s[0] < frame.begins_s - SAME_INSTANT_S:
                break
            if due_s and due_s[0] <= frame.begins_s + SAME_INSTANT_S:
                due_s.popleft()
            reached_s = frame.begins_s
            yield frame
        if due_s:
            yield from (frame for frame in self._timed() if frame.begins_s > reached_s)

    def _timed(self, needed_s: set[float] | None = None) -> Iterator[TimedFrame]:
        """The images with the times at which they come on screen."""
        ends_s: float | None = None
        for image in self._images(needed_s):
            known_s = self._time_s(image)
            begins_s = ends_s if known_s is None else known_s
            if begins_s is None:  # nor has any frame before it a time
                continue
            ends_s = begins_s + self._container.frame_duration_s
            if image.is_corrupt:
                self._add_gap(begins_s)
            yield TimedFrame(begins_s, image)

    def _positions_s(self) -> list[float] | None:
        """When the n-th image comes on screen, where packets have times in the order of decoding though their images are
        shown in another one; None where images have their own times.
        """
        coded, has_times = self._coded, self._container.has_frame_times
        if has_times and not (coded.are_in_order and self._container.video.codec_context.has_b_frames):
            return None
        times_s = [self._time_s(image) or 0.0 for image in self._images()]
        if has_times and times_s == sorted(times_s):
            return None
        # What is stored after the first keyframe, shown before it and predicted from earlier frames gives no image.
        num_leading = len(coded.begins_s) - len(times_s) - self._num_errors
        return sorted(coded.begins_s)[max(0, num_leading) :]

    def _images(self, needed_s: set[float] | None = None) -> Iterator[av.VideoFrame]:
        """The decoded images in order of presentation; those whose time is not in `needed_s` may be left out."""
        container, coded = self._container, self._coded
        codec = container.video.codec_context
        codec.flush_buffers()
        codec.skip_frame, self._num_errors = "DEFAULT", 0
        packets: Iterable[Any] = coded.packets if coded.are_held else self._reader.video_packets(coded)
        if needed_s is not None and coded.are_held:
            packets = ClosedGroups(container.video).needed(coded.packets, needed_s)
        setup = [] if coded.setup is None else [coded.setup]
        for packet in chain(setup, packets, [None]):
            container.deadline.check()
            if needed_s is not None and packet is not None:
                codec.skip_frame = "DEFAULT" if self._time_s(packet) in needed_s else "NONREF"
            try:
                images = codec.decode(packet)
            except (av.error.ExitError, MemoryError):
                raise
            except av.error.FFmpegError as error:
                self._on_error(error, packet)
                continue
            yield from images

    def _on_error(self, error: av.error.FFmpegError, packet: Any) -> None:
        self.failure, self._num_errors = self.failure or message(error), self._num_errors + 1
        begins_s = None if packet is None else self._time_s(packet)
        if begins_s is not None:
            self._add_gap(begins_s)

    def _add_gap(self, begins_s: float) -> None:
        self.frame_gaps_s.append((begins_s, begins_s + self._container.frame_duration_s))


class _AudioDecoder:
    """Decodes audio packets into a track; one that cannot be decoded leaves a gap there."""

    def __init__(self, track: AudioTrack) -> None:
        self.track = track
        self.failure: str | None = None
        self._has_times = False

    def restart(self) -> None:
        self.track.clear()
        self.failure, self._has_times = None, False

    def add(self, packet: Any) -> None:
        try:
            frames = packet.decode()
        except (av.error.ExitError, MemoryError):
            raise
        except av.error.FFmpegError as error:
            begins_s = time_s(packet)
            is_before = self.track.is_empty if begins_s is None else begins_s < self.track.start_s
            if not is_before:  # a seek may land in the middle of a packet
                self.failure = self.failure or message(error)
            return
        self._has_times = self._has_times or any(frame.time is not None for frame in frames)
        if frames and not self._has_times:  # as with WMA Pro: the packet's time is the only one
            frames[0].pts, frames[0].time_base = packet.pts, packet.time_base
        for frame in frames:
            if frame.time is None or frame.time + KEPT_S > self.track.start_s:
                self.track.add(frame)
