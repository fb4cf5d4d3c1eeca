"""Selects the decoded frame that is on screen at an instant, and the packets that need not be decoded to know it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import av
import numpy as np

# Two times closer than this are the same instant; the clocks of containers are coarser.
SAME_INSTANT_S = 1e-6
# Decoders that leave out exactly the frames that they are asked to, when no other frame depends on them
# (tests compare the result with plain decoding).
CAN_SKIP = {"h264", "hevc"}


def time_s(item: Any) -> float | None:
    """Presentation time of a packet or frame on the container's clock.

    Old AVI files have decoding times only; their frames are in order, so those are the same.
    """
    ticks = item.pts if item.pts is not None else item.dts
    if ticks is None:
        return None
    base = item.time_base
    seconds: float = ticks * base.numerator / base.denominator  # as Fraction divides, without making one
    return seconds


def on_screen(frames: Iterable[av.VideoFrame], times_s: Sequence[float]) -> Iterator[av.VideoFrame]:
    """For each instant, ascending, the last frame that begins by then; the first frame when none does.

    Frames come in order of presentation; as few are taken as it needs.
    """
    instants = iter(times_s)
    instant = next(instants)
    shown = None
    for frame in frames:
        begins_s = time_s(frame)
        while shown is not None and begins_s is not None and begins_s > instant + SAME_INSTANT_S:
            yield shown
            following = next(instants, None)
            if following is None:
                return
            instant = following
        shown = frame
    if shown is not None:
        yield shown
        yield from (shown for _ in instants)


def decoded(
    stream: Any, packets: Sequence[Any], times_s: Sequence[float] | None = None
) -> Iterator[av.VideoFrame]:
    """The stream's frames in order of presentation; those that no instant of `times_s` shows may be left out."""
    context = stream.codec_context
    can_skip = times_s is not None and context.codec.canonical_name in CAN_SKIP
    needed = needed_times_s(packets, times_s or ()) if can_skip else None
    for packet in packets:
        if needed is not None:
            context.skip_frame = "DEFAULT" if time_s(packet) in needed else "NONREF"
        yield from packet.decode()
    for frame in stream.decode(None):
        frame.time_base = stream.time_base  # PyAV leaves it open when it flushes
        yield frame


def with_packet_times(stream: Any, packets: Sequence[Any]) -> Iterator[av.VideoFrame]:
    """The stream's frames, the n-th in order of presentation with the n-th packet's time."""
    for frame, packet in zip(decoded(stream, packets), packets, strict=False):
        frame.pts, frame.time_base = packet.pts, packet.time_base
        yield frame


def needed_times_s(packets: Sequence[Any], times_s: Sequence[float]) -> set[float] | None:
    """Presentation times of the packets that are on screen at the instants; None where a time is unknown."""
    begins = [time_s(packet) for packet in packets if not packet.is_discard]
    known = sorted(begin for begin in begins if begin is not None)
    if not known or len(known) < len(begins):
        return None
    positions = (bisect_right(known, instant + SAME_INSTANT_S) - 1 for instant in np.asarray(times_s))
    return {known[max(0, position)] for position in positions}
