"""Selects the decoded frame that is on screen at an instant, and the packets that need not be decoded to know it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np

# Two times closer than this are the same instant; the clocks of containers are coarser.
SAME_INSTANT_S = 1e-6
# Decoders that leave out exactly the frames that they are asked to, when no other frame depends on them
# (tests compare the result with plain decoding).
CAN_SKIP = {"h264", "hevc"}


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame and when it comes on screen, on the container's clock."""

    begins_s: float
    image: av.VideoFrame
    turned: int | None = None  # the orientation, as in EXIF, by which a library has turned the image already


def on_screen(frames: Iterable[TimedFrame], instants_s: Sequence[float]) -> Iterator[TimedFrame | None]:
    """For each instant, ascending, the last frame that begins by then; None before the first one.

    Frames come in order of presentation; as few are taken as it needs.
    """
    instants = iter(instants_s)
    instant = next(instants)
    shown = None
    for frame in frames:
        while frame.begins_s > instant + SAME_INSTANT_S:
            yield shown
            following = next(instants, None)
            if following is None:
                return
            instant = following
        shown = frame
    yield shown
    yield from (shown for _ in instants)


def needed_times_s(begins_s: Sequence[float], instants_s: Sequence[float]) -> set[float]:
    """Of the times at which frames come on screen, those of the frames that are there at the instants."""
    known = sorted(begins_s)
    positions = (bisect_right(known, instant + SAME_INSTANT_S) - 1 for instant in np.asarray(instants_s))
    return {known[max(0, position)] for position in positions} if known else set()
