"""What steps cost at one size and at several times that: whether time grows faster than the size."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Literal, TypeVar

from benchmarks.support.results import Row
from benchmarks.support.timing import Cost

C = TypeVar("C", bound=Cost)
SMALLER: Mapping[int, str] = {4: "a quarter as many", 10: "a tenth as many"}


def growth_rows(
    costs: Callable[[int], Mapping[str, C]],
    largest: int,
    factor: int,
    figure: Literal["wall_s", "cpu_s"],
    label: Callable[[str, int, C], str] = lambda step, size, cost: f"{step}, {size:,} clips",
    aim: Callable[[str, C], str] = lambda step, cost: "",
) -> list[Row]:
    """A row for each step of `costs` at `largest` / `factor`, then one at `largest`, which alone has a ratio and an aim."""
    sizes = largest // factor, largest
    smaller, larger = (costs(size) for size in sizes)
    return [
        Row(
            what=label(step, size, cost[step]),
            values=[getattr(cost[step], figure)],
            unit="s",
            ratio=getattr(cost[step], figure) / getattr(smaller[step], figure) if size == largest else None,
            to=SMALLER[factor],
            peak_mib=cost[step].peak_mib,
            aim=aim(step, cost[step]) if size == largest else "",
        )
        for step, (size, cost) in product(larger, zip(sizes, (smaller, larger), strict=True))
    ]
