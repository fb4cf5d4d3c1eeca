"""Finds where the times of a broadcast's stream begin anew: where files were joined, or a recorder's clock was set.

Such streams have no header that says so, and reading all of a file would take long. So the times at some bytes are compared,
closest together where the file begins, and a restart between two of them is found by halving the distance.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from cavsync.pipeline.media.demuxing.container import Container

# As ffmpeg's own program decides: a stream's times do not fall, and they do not leap by more than 10 s.
FALL_S, LEAP_S = 0.2, 10.0
# A leap is looked for where the file's times ascend so many times faster than elsewhere.
FAST = 4.0
GRID = 12
CLOSEST_BYTES = 16 * 1024
# The first packet of a stream that has one now and then may be so far on.
MOST_SKIPPED = 100
# A single packet with a damaged time is no restart.
MIN_FOLLOWING, MOST_FOLLOWING = 5, 300
MOST_PARTS = 200


@dataclass(frozen=True)
class _Sample:
    """When a packet is decoded; `position` is where it was looked for, in bytes."""

    position: int
    stream: int
    at_s: float


def restarts(container: Container, num_bytes: int) -> list[int]:
    """The first byte of each stretch whose times begin anew."""
    found: list[int] = []
    while len(found) < MOST_PARTS:
        following = _next_restart(container, found[-1] if found else 0, num_bytes)
        if following is None or following <= (found[-1] if found else 0):
            break
        found.append(following)
    return found


def _next_restart(container: Container, begin: int, stop: int) -> int | None:
    samples = [
        one for position in _positions(begin, stop) if (one := _sample(container, position)) is not None
    ]
    pairs = [(one, other) for one, other in pairwise(samples) if one.stream == other.stream]
    pace = sorted((other.at_s - one.at_s) / (other.position - one.position) for one, other in pairs)
    usual = pace[len(pace) // 2] if pace else 0.0
    for one, other in pairs:
        rise_s = other.at_s - one.at_s
        is_leap = rise_s > LEAP_S and rise_s > FAST * usual * (other.position - one.position)
        if rise_s < -FALL_S or is_leap:
            low, high = _narrowed(container, one, other)
            restart = _restart_within(container, low.position, high.position)
            if restart is not None and restart > begin:
                return restart
    return None


def _positions(begin: int, stop: int) -> list[int]:
    length = stop - begin
    even = {begin + length * number // GRID for number in range(GRID)}
    near_begin = {begin + (length >> shift) for shift in range(1, 40) if length >> shift >= CLOSEST_BYTES}
    near_end = {max(begin, stop - (CLOSEST_BYTES << shift)) for shift in (0, 2, 4, 6)}
    return sorted(even | near_begin | near_end)


def _sample(container: Container, position: int) -> _Sample | None:
    """The first packet from there on, of the video if one comes soon."""
    first: _Sample | None = None
    for number, packet in enumerate(container.packets_from(position)):
        if packet.dts is not None:
            sample = _Sample(position, packet.stream_index, float(packet.dts * packet.time_base))
            first = first or sample
            if packet.stream_index == container.streams[0].index:
                return sample
        if number == MOST_SKIPPED:
            break
    return first


def _narrowed(container: Container, low: _Sample, high: _Sample) -> tuple[_Sample, _Sample]:
    """The closest two samples between which times fall, or leap the farthest."""
    while high.position - low.position > CLOSEST_BYTES:
        middle = _sample(container, (low.position + high.position) // 2)
        if middle is None or middle.stream != low.stream:
            break
        falls = high.at_s < low.at_s
        is_before = (
            middle.at_s >= low.at_s - FALL_S if falls else middle.at_s - low.at_s < high.at_s - middle.at_s
        )
        low, high = (middle, high) if is_before else (low, middle)
    return low, high


@dataclass
class _Streams:
    """How far the packets of each stream have come, until all are beyond a restart."""

    reached_s: dict[int, float] = field(default_factory=dict)
    begun_s: dict[int, float] = field(default_factory=dict)  # after the restart
    first_byte: int | None = None
    num_following: int = 0

    def add(self, stream: int, at_s: float, byte: int) -> None:
        if stream in self.begun_s:
            self.num_following += 1
            if abs(at_s - self.reached_s[stream]) < abs(at_s - self.begun_s[stream]):
                self.begun_s, self.first_byte, self.num_following = {}, None, 0
            else:
                self.begun_s[stream] = at_s
                return
        if stream in self.reached_s and self._is_restart(stream, at_s):
            self.begun_s[stream] = at_s
            self.first_byte = byte if self.first_byte is None else min(self.first_byte, byte)
        else:
            self.reached_s[stream] = at_s

    def _is_restart(self, stream: int, at_s: float) -> bool:
        return at_s < self.reached_s[stream] - FALL_S or at_s > max(self.reached_s.values()) + LEAP_S


def _restart_within(container: Container, low: int, high: int) -> int | None:
    """The first byte after the restart that lies near [low, high)."""
    streams, num_after = _Streams(), 0
    for packet in container.packets_from(low):
        if packet.dts is None or packet.pos is None:
            continue
        streams.add(packet.stream_index, float(packet.dts * packet.time_base), packet.pos)
        is_found = streams.first_byte is not None and streams.num_following >= MIN_FOLLOWING
        num_after += is_found or packet.pos > high + CLOSEST_BYTES
        is_whole = len(streams.begun_s) == len(container.streams)
        if (is_found and is_whole) or num_after > MOST_FOLLOWING:
            break
    return streams.first_byte if streams.num_following >= MIN_FOLLOWING else None
