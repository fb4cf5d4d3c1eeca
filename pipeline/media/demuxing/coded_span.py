"""Reads the coded packets that a span of a file needs, from where reading must begin until both streams are past it.

A seek is a guess: transport streams have no index of keyframes, sparse frames lie far from their audio, and some files
cannot seek at all. So the first packets after a seek are compared with the span. Where they are too late, reading begins
again further back, at worst with the file's first packet.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import dropwhile, islice
from typing import Any, Protocol

from av.stream import Discard

from cavsync.pipeline.media.demuxing.clock import Span, clock, time_s
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.opened_file import skipped_s

# How far before the span reading begins, each tried where the one before came too late. The first is the usual one:
# a codec's first samples after a seek fade in.
ENTRIES_S = (0.1, 1.0, 5.0, 30.0, 120.0)
# Audio must begin so far before the span, for the same reason, but is not decoded from further back than the second.
PRIMING_S, MOST_PRIMING_S = 0.05, 1.0
# Codecs that predict samples from those before them, or adapt to them, need longer, speech codecs most; MP3 of a low
# bit rate has a frame's bits in many frames before it.
LONG_PRIMING_S = 1.0
ADAPTIVE = {
    "adpcm_g722", "adpcm_g726", "adpcm_g726le", "amr_nb", "amr_wb", "cook", "evrc", "g723_1", "g728", "g729", "gsm", "gsm_ms", "ilbc",
    "mp3", "nellymoser", "qcelp", "ra_144", "ra_288", "sipr", "speex", "truespeech", "wmav1", "wmav2", "wmavoice",
}  # fmt: skip
# Codecs whose samples depend on all before them: they add up differences and never begin anew, or their noise goes on.
FROM_BEGINNING = {"adpcm_ima_oki", "adpcm_yamaha", "dfpwm", "qdm2"}
# Audio is read so far past the span: only then is it known whether its times deviate for long (audio_track.py).
AUDIO_TAIL_S = 0.5
# A codec may store so many frames before one that is shown earlier, and Matroska does not say so.
MOST_REORDERED = 16
# A slide may stay for minutes; a broken header claims centuries.
LONGEST_PACKET_S = 600.0
# An Ogg page of FLAC says when it ends, so the times of its first packets after a seek are a guess. Pages last a second.
GUESSED_S = 5.0
# Side data that decoders need for all packets from this one on.
SETUP = ("palette", "new_extradata")
# Times that fall back by more have begun anew, as where two files were joined: these instants were read before.
RESTART_S = 2.0
# The clocks of containers are as coarse as this.
CLOCK_S = 1e-3
# Video packets of a span that take more are read again for decoding instead of being held in memory.
MOST_HELD_BYTES = 32 * 2**20


class AudioSink(Protocol):
    """Takes the audio packets of a span, in the file's order."""

    def restart(self) -> None:
        """Forget what was added: reading begins again, further back."""
        ...

    def add(self, packet: Any) -> None: ...


@dataclass
class CodedFrames:
    """The video packets of a span, in decoding order from its keyframe on. Times are on the container's clock."""

    entry_s: float | None = None  # where reading began; None for the file's first packet
    keyframe_s: float | None = None  # the last keyframe by the span's beginning
    setup: Any = None  # the last packet before the keyframe with side data that all after it need
    packets: list[Any] = field(default_factory=list)
    are_held: bool = True  # False: `packets` is empty, because they are too large
    begins_s: list[float] = field(default_factory=list)  # when each of the frames comes on screen
    are_timed: bool = True  # every packet has a time
    are_in_order: bool = True  # the times of the packets ascend
    end_s: float = -math.inf  # when the last frame leaves the screen
    num_packets: int = 0
    num_bytes: int = 0
    last_setup: Any = None  # as `setup`, before any packet that is still to come

    @property
    def begin_s(self) -> float:
        """When the first frame comes on screen; infinite without any."""
        return min(self.begins_s, default=math.inf)

    def add(self, packet: Any, begins_s: float | None, lasts_s: float) -> None:
        self.num_packets, self.num_bytes = self.num_packets + 1, self.num_bytes + packet.size
        # Nearly no packet has side data, and asking for a kind of it takes as long as the rest of a packet.
        if next(packet.iter_sidedata(), None) is not None and any(map(packet.has_sidedata, SETUP)):
            self.last_setup = packet
        if self.num_bytes > MOST_HELD_BYTES:
            self.are_held, self.packets = False, []
        if self.are_held:
            self.packets.append(packet)
        self.are_timed &= begins_s is not None
        if begins_s is not None and not packet.is_discard:
            self.are_in_order &= not self.begins_s or begins_s > self.begins_s[-1]
            self.begins_s.append(begins_s)
            self.end_s = max(self.end_s, begins_s + lasts_s)

    def restart(self, keyframe_s: float) -> None:
        """Forget the packets before this keyframe: no frame of the span needs them."""
        self.packets, self.begins_s, self.num_packets, self.num_bytes = [], [], 0, 0
        self.are_held = self.are_timed = self.are_in_order = True
        self.keyframe_s, self.setup = keyframe_s, self.last_setup


@dataclass
class _Part:
    """One stream while a span of it is read."""

    stream: Any
    needed_s: float  # the first packet that can be decoded must not be later
    stop_s: float
    is_from_first_packet: bool
    take: Callable[[Any, float | None, float], None]  # a packet, when it begins, and how long it lasts
    most_reordered: int = 0
    may_restart: bool = False  # times may begin anew within the file
    has_begun: bool = False
    is_done: bool = False
    num_past: int = 0  # packets in a row that are past the span
    end_s: float = -math.inf  # of what was read
    reached_s: float = -math.inf  # when the latest packet inside the span is decoded

    def __post_init__(self) -> None:
        self._begins_s, self._tick_s = clock(self.stream.time_base), float(self.stream.time_base)

    def add(self, packet: Any) -> bool:
        """False where the stream's first packet that can be decoded comes too late."""
        begins_s = self._begins_s(packet)
        lasts_s = min((packet.duration or 0) * self._tick_s, LONGEST_PACKET_S)
        # Packets after one that is decoded at the end are shown no earlier, but for those that are out of order.
        decoded_at_s = begins_s if packet.dts is None else packet.dts * self._tick_s
        is_past = decoded_at_s is not None and decoded_at_s >= self.stop_s
        if self.may_restart and decoded_at_s is not None and decoded_at_s < self.reached_s - RESTART_S:
            return True
        if decoded_at_s is not None and not is_past:
            self.reached_s = max(self.reached_s, decoded_at_s)
        if not self.has_begun and not self.is_from_first_packet:
            if begins_s is None or not packet.is_keyframe:
                return not is_past
            if begins_s > self.needed_s + CLOCK_S:
                return False
        self.has_begun = True
        if begins_s is not None:
            self.end_s = max(self.end_s, begins_s + lasts_s)
        self.num_past = self.num_past + 1 if is_past else 0
        if is_past and (packet.is_keyframe or self.num_past > self.most_reordered):
            self.is_done, self.stream.discard = True, Discard.all
        else:
            self.take(packet, begins_s, lasts_s)
        return True


class SpanReader:
    """Reads one span of an open file, from ever further back."""

    def __init__(self, container: Container, span: Span) -> None:
        self._container, self.span = container, span
        self._entries = self._all_entries()

    def read(self, audio: AudioSink | None) -> CodedFrames | None:
        """The video packets; the sink gets the audio. Each call begins further back; None when there is no further."""
        for entry_s in self._entries:
            if self._container.enter(entry_s):
                coded = self._read_from(entry_s, audio)
                if coded is not None:
                    return coded
        return None

    def video_packets(self, coded: CodedFrames) -> Iterator[Any]:
        """The packets of frames that were not held."""
        self._container.enter(coded.entry_s)
        if self._container.audio is not None:
            self._container.audio.discard = Discard.all
        # What the demuxer had read before, and what comes with every frame (DV), it gives nevertheless.
        index, all_packets = self._container.video.index, self._container.packets()
        packets = (packet for packet in all_packets if packet.stream_index == index)
        yield from islice(dropwhile(lambda packet: not _begins(packet, coded), packets), coded.num_packets)

    def _all_entries(self) -> Iterator[float | None]:
        least_s = GUESSED_S if self._container.guesses_times else 0.0
        can_seek = self._container.has_keyframes and not self._container.has_palette
        for back_s in ENTRIES_S if can_seek else ():
            if back_s >= least_s and self.span.begin_s - back_s > self._container.origin_s:
                yield self.span.begin_s - back_s
        yield None

    def _read_from(self, entry_s: float | None, audio: AudioSink | None) -> CodedFrames | None:
        """None where the first packets are too late."""
        coded = CodedFrames(entry_s)
        parts = {part.stream.index: part for part in self._parts(coded, audio)}
        for packet in self._container.packets():
            part = parts.get(packet.stream_index)
            if part is None or part.is_done:
                continue
            if not part.add(packet):
                return None
            if part.is_done and all(one.is_done for one in parts.values()):
                break
        if any(self._is_missed(part) for part in parts.values()):
            return None
        if coded.begins_s:
            # A frame stays on screen until the next one, and the file's last one as long as there is audio.
            shown_s = [begin_s for begin_s in coded.begins_s if begin_s < self.span.end_s]
            longest_s = max(shown_s, default=coded.begin_s) + LONGEST_PACKET_S
            next_s = max(coded.end_s, parts[self._container.video.index].end_s)
            audio_ends_s = [part.end_s for part in parts.values() if part.stream is self._container.audio]
            coded.end_s = max([min(next_s, longest_s), *audio_ends_s])
        return coded

    def _parts(self, coded: CodedFrames, audio: AudioSink | None) -> Iterator[_Part]:
        container, span, from_first = self._container, self.span, coded.entry_s is None
        restarts = container.may_restart
        if container.video is not None:
            needed_s = max(span.begin_s, container.begin_s(container.video))
            take = self._video_taker(coded)
            yield _Part(container.video, needed_s, span.end_s, from_first, take, MOST_REORDERED, restarts)
        if container.audio is not None and audio is not None:
            audio.restart()
            needed_s = max(span.begin_s - self._priming_s, container.begin_s(container.audio))
            take = self._audio_taker(audio)
            stop_s = span.end_s + AUDIO_TAIL_S
            yield _Part(container.audio, needed_s, stop_s, from_first, take, may_restart=restarts)

    def _video_taker(self, coded: CodedFrames) -> Callable[[Any, float | None, float], None]:
        frame_duration_s, has_keyframes = self._container.frame_duration_s, self._container.has_keyframes

        def take(packet: Any, begins_s: float | None, lasts_s: float) -> None:
            is_keyframe = has_keyframes and packet.is_keyframe
            if is_keyframe and begins_s is not None and begins_s <= self.span.begin_s:
                coded.restart(begins_s)
            coded.add(packet, begins_s, lasts_s or frame_duration_s)

        return take

    def _audio_taker(self, audio: AudioSink) -> Callable[[Any, float | None, float], None]:
        most_s, span_begin_s = max(MOST_PRIMING_S, 2 * self._priming_s), self.span.begin_s

        def take(packet: Any, begins_s: float | None, lasts_s: float) -> None:
            if begins_s is None or begins_s + most_s > span_begin_s:
                audio.add(packet)

        return take

    @property
    def _priming_s(self) -> float:
        audio = self._container.audio
        name = audio.codec_context.codec.canonical_name
        # Samples of 24 bits lie across packets on a DVD, and none says where they begin.
        if name in FROM_BEGINNING or (name == "pcm_dvd" and audio.codec_context.format.name != "s16"):
            return math.inf
        return (LONG_PRIMING_S if name in ADAPTIVE else PRIMING_S) + skipped_s(audio)

    def _is_missed(self, part: _Part) -> bool:
        """Whether a stream without a packet may have some further back."""
        if part.has_begun or part.is_from_first_packet:
            return False
        end_s = self._container.end_s(part.stream)
        return end_s is None or end_s > self.span.begin_s


def _begins(packet: Any, coded: CodedFrames) -> bool:
    """Whether this is the first of the packets."""
    return coded.keyframe_s is None or (packet.is_keyframe and time_s(packet) == coded.keyframe_s)
