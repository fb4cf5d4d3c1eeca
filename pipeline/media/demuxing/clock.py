"""Times and spans on a container's clock, in seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Span:
    """[begin_s, begin_s + duration_s) of the file on the container's clock, in seconds."""

    begin_s: float
    duration_s: float

    @property
    def end_s(self) -> float:
        return self.begin_s + self.duration_s


def time_s(item: Any) -> float | None:
    """Presentation time of a packet or frame on the container's clock.

    Old AVI files have decoding times only; their frames are in order, so those are the same.
    """
    return clock(item.time_base)(item)


def clock(time_base: Fraction) -> Callable[[Any], float | None]:
    """`time_s` for the items of one stream: PyAV makes a Fraction at each look at a time base, which takes longer than the rest."""
    numerator, denominator = time_base.numerator, time_base.denominator

    def presented_s(item: Any) -> float | None:
        ticks = item.pts if item.pts is not None else item.dts
        if ticks is None:
            return None
        seconds: float = ticks * numerator / denominator  # as Fraction divides
        return seconds

    return presented_s
