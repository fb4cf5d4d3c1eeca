"""Decodes a span of files that were joined to one: each part by a decoder of its own, on the clock of the whole file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.media.audio_track import AudioTrack
from cavsync.pipeline.media.backends.pyav import PyAvDecoder
from cavsync.pipeline.media.demuxing.clock import Span
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.file_part import TimedPart
from cavsync.pipeline.media.frame_selection import TimedFrame

# The first frame of a part may come so late, and the last one of the part before stays until then.
HELD_S = 0.5
# Where the end of that part is read.
END_S = 0.1


@dataclass(frozen=True)
class _PartDecoder:
    """A part that a span touches; times are on the clock of the whole file."""

    decoder: PyAvDecoder
    has_video: bool
    offset_s: float
    begin_s: float  # of the instants that the part shows
    stop_s: float

    def frames(self, instants: Sequence[float]) -> Iterator[TimedFrame | None]:
        for frame in self.decoder.frames([instant - self.offset_s for instant in instants]):
            yield None if frame is None else replace(frame, begins_s=frame.begins_s + self.offset_s)


class JoinedFileDecoder:
    name = PyAvDecoder.name
    opens_path = False

    def __init__(self, container: Container) -> None:
        self._container = container
        self._parts: list[_PartDecoder] = []
        self._end_s = -math.inf  # of the span

    def read(self, span: Span, channel: AudioChannel, keeps_stereo: bool = False) -> AudioTrack:
        track = AudioTrack(span, channel, keeps_stereo)
        self._parts, self._end_s = [], span.end_s
        timeline = self._container.timeline
        stops_s = [*(part.begin_s for part in timeline[1:]), math.inf]
        for number, (timed, stop_s) in enumerate(zip(timeline, stops_s, strict=True)):
            begin_s = timed.begin_s if number else -math.inf
            if begin_s < span.end_s and stop_s + HELD_S > span.begin_s:
                from_s = max(begin_s, min(span.begin_s, stop_s - END_S))
                local = Span(from_s - timed.offset_s, min(stop_s, span.end_s) - from_s)
                self._parts.append(self._opened(timed, max(begin_s, span.begin_s), stop_s))
                track.append(self._parts[-1].decoder.read(local, channel, keeps_stereo), timed.offset_s)
        return track

    def frames(self, instants: Sequence[float]) -> Iterator[TimedFrame | None]:
        """The last frame of a part stays until the next one's first."""
        shown: TimedFrame | None = None
        for part in self._parts:
            own = [one for one in instants if part.begin_s <= one < part.stop_s]
            if not part.has_video:
                yield from (shown for _ in own)
                continue
            is_last = part is self._parts[-1]
            for number, frame in enumerate(part.frames(own if is_last and own else [*own, part.stop_s])):
                shown = frame or shown
                if number < len(own):
                    yield shown

    @property
    def frames_begin_s(self) -> float:
        return min((one.decoder.frames_begin_s + one.offset_s for one in self._parts), default=math.inf)

    @property
    def frames_end_s(self) -> float:
        return max((one.decoder.frames_end_s + one.offset_s for one in self._parts), default=-math.inf)

    @property
    def frame_gaps_s(self) -> list[tuple[float, float]]:
        return [
            (start_s + one.offset_s, stop_s + one.offset_s)
            for one in self._parts
            for start_s, stop_s in one.decoder.frame_gaps_s
        ]

    @property
    def failure(self) -> str | None:
        last = self._container.timeline[-1]
        unread = last.unread if self._end_s > last.end_s else None
        return next((one.decoder.failure for one in self._parts if one.decoder.failure), unread)

    def _opened(self, timed: TimedPart, begin_s: float, stop_s: float) -> _PartDecoder:
        is_first = timed is self._container.timeline[0]
        container = self._container if is_first else self._container.open_part(timed.part)
        has_video = container.video is not None
        return _PartDecoder(PyAvDecoder(container), has_video, timed.offset_s, begin_s, stop_s)
