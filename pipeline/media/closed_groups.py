"""Leaves out packets of H.264 and HEVC that no wanted frame needs: those between the last one of a closed group and the next group.

A closed group begins with an IDR picture: nothing from there on refers to what was stored before. Other keyframes do not
begin one, since frames stored after them may refer to frames before them.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cavsync.pipeline.media.demuxing.clock import clock

# Two packets may hold the two fields of a frame, of which the first has the frame's time.
NUM_FIELDS = 2
START_CODE = b"\0\0\1"


@dataclass(frozen=True, kw_only=True)
class _UnitTypes:
    """The types of the units that a codec's packets consist of (NAL units)."""

    shift: int  # of the first byte
    mask: int
    slices: range
    idr: frozenset[int]
    parameters: frozenset[int]  # that later packets need
    length_at: int  # byte of the stream's header that says how many bytes a unit's length takes


_UNIT_TYPES = {
    "h264": _UnitTypes(
        shift=0,
        mask=0x1F,
        slices=range(1, 6),
        idr=frozenset({5}),
        parameters=frozenset({7, 8, 13, 15}),
        length_at=4,
    ),
    "hevc": _UnitTypes(
        shift=1,
        mask=0x3F,
        slices=range(32),
        idr=frozenset({19, 20}),
        parameters=frozenset({32, 33, 34}),
        length_at=21,
    ),
}


class ClosedGroups:
    """Of the packets of one stream; those of a codec that is not known here are one group."""

    def __init__(self, stream: Any) -> None:
        self._types = _UNIT_TYPES.get(stream.codec_context.codec.canonical_name)
        self._begins_s = clock(stream.time_base)
        header = stream.codec_context.extradata or b""
        # A header with units of its own, or none, is of a stream whose units begin with a start code.
        has_start_codes = header[:2] == b"\0\0"
        has_lengths = self._types is not None and not has_start_codes and len(header) > self._types.length_at
        self._length_bytes = (header[self._types.length_at] & 3) + 1 if self._types and has_lengths else 0

    def needed(self, packets: Sequence[Any], times_s: Container[float | None]) -> Iterator[Any]:
        """Of consecutive packets in decoding order, those that the frames at `times_s` need, and no fewer."""
        group: list[Any] = []
        for packet in packets:
            if packet.is_keyframe and self._holds(packet, "idr"):
                yield from self._without_end(group, times_s)
                group = []
            group.append(packet)
        yield from self._without_end(group, times_s)

    def _without_end(self, group: list[Any], times_s: Container[float | None]) -> list[Any]:
        # The first packet stays, since it may bring parameters.
        last = max((n for n, packet in enumerate(group) if self._begins_s(packet) in times_s), default=0)
        stop = last + NUM_FIELDS
        is_used_later = any(
            packet.has_sidedata("new_extradata") or self._holds(packet, "parameters")
            for packet in group[stop:]
        )
        return group if is_used_later else group[:stop]

    def _holds(self, packet: Any, kind: Literal["idr", "parameters"]) -> bool:
        """Whether a unit of that kind is there before the packet's first slice, or is the slice."""
        if self._types is None:
            return False
        content = bytes(packet)
        for at in self._units(content):
            number = content[at] >> self._types.shift & self._types.mask
            if number in getattr(self._types, kind):
                return True
            if number in self._types.slices:
                break
        return False

    def _units(self, content: bytes) -> Iterator[int]:
        """Where the first byte of each unit stands."""
        at = 0
        if not self._length_bytes:
            while (at := content.find(START_CODE, at) + len(START_CODE)) >= len(START_CODE):
                if at < len(content):
                    yield at
        while self._length_bytes and at + self._length_bytes < len(content):
            first = at + self._length_bytes
            length = int.from_bytes(content[at:first], "big")
            if length:
                yield first
            at = first + length
