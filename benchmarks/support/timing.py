"""What an action costs, and how several are compared: in turns, on the same core, in one run.

CPU time is that of this process and of all that it starts, so a neighbour on the machine does not count. Wall time
does count neighbours; a median over rounds, in which all actions take turns, keeps their ratio honest.
"""

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import psutil

T = TypeVar("T")

Action = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    cpu_s: float
    wall_s: float
    peak_mib: float | None = None  # known of an action that had a process of its own


@dataclass(frozen=True)
class Series:
    """One action's costs, round by round."""

    costs: Sequence[Cost]

    @property
    def cpu_s(self) -> list[float]:
        return [cost.cpu_s for cost in self.costs]

    @property
    def wall_s(self) -> list[float]:
        return [cost.wall_s for cost in self.costs]


def cost_of(action: Action) -> Cost:
    cpu_s, wall_s = _cpu_s(), time.perf_counter()
    action()
    return Cost(_cpu_s() - cpu_s, time.perf_counter() - wall_s)


def in_own_process(action: Action) -> Cost:
    """The action's cost in a new process, with the most memory that this, or one that it started, held."""
    return result_in_own_process(partial(weighed, action))


def result_in_own_process(call: Callable[[], T]) -> T:
    """What `call`, which is pickled, returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call).result()


def weighed(action: Action) -> Cost:
    """The action's cost, with the most memory that this process, or one that it started, ever held."""
    cost = cost_of(action)
    peaks = [
        resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return replace(cost, peak_mib=max(peaks) / 1024)


def in_turns(actions: Mapping[str, Action], rounds: int, warm_ups: int = 1) -> dict[str, Series]:
    """Every action once a round, `rounds` times, after rounds that do not count."""
    costs: dict[str, list[Cost]] = {name: [] for name in actions}
    for number in range(warm_ups + rounds):
        for name, action in actions.items():
            cost = cost_of(action)
            if number >= warm_ups:
                costs[name].append(cost)
    return {name: Series(series) for name, series in costs.items()}


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """The median of the rounds' ratios: what disturbed a round disturbed both."""
    return statistics.median(one / other for one, other in zip(values, base, strict=True))


def use_one_core() -> None:
    """This process and what it starts stay on one core, so that threads and neighbours change nothing."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _cpu_s() -> float:
    """Of this process, and of its children, living and ended; theirs in steps of 10 ms."""
    this = psutil.Process()
    ended = this.cpu_times()
    total = time.process_time() + ended.children_user + ended.children_system
    for process in this.children(recursive=True):
        try:
            total += sum(process.cpu_times()[:4])  # user and system, own and of ended children
        except psutil.NoSuchProcess:
            continue
    return total
