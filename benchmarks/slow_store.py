"""What many small files cost on a store that answers each request after a while.

    python -m benchmarks.slow_store [--shards N] [--answer-ms MS]

The store is a folder whose file system waits before it gives a file, its facts or a list. Reading on in an open file costs no further
wait, although large files take several requests. The shards are links to one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, local
from typing import Any, ClassVar

import fsspec
import typer
from fsspec.implementations.local import LocalFileSystem

from benchmarks.plan import planned
from benchmarks.support import results, timing
from benchmarks.support.growth import growth_rows
from cavsync.pipeline.dataset.done_record import finished_record
from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.inspection.status import read_status
from cavsync.pipeline.inspection.validation import validate
from cavsync.pipeline.storage.path import AnyPath, as_path, each

GROWTH = 4
LARGE = 40_000  # shards of twenty million clips


class SlowFileSystem(LocalFileSystem):
    """The local files under URLs slow:///path. A request that another one makes is part of it."""

    protocol = ("slow",)
    answer_s: ClassVar[float] = 0.05
    num_requests: ClassVar[int] = 0
    _lock, _inside = Lock(), local()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("slow://"))

    @classmethod
    @contextmanager
    def _answer(cls) -> Iterator[None]:
        if getattr(cls._inside, "active", False):
            yield
            return
        with cls._lock:
            SlowFileSystem.num_requests += 1
        time.sleep(cls.answer_s)
        cls._inside.active = True
        try:
            yield
        finally:
            cls._inside.active = False

    def info(self, path: Any, **options: Any) -> Any:
        with self._answer():
            return super().info(path, **options)

    def ls(self, path: Any, detail: bool = False, **options: Any) -> Any:
        with self._answer():
            return super().ls(path, detail, **options)

    def _open(self, path: Any, mode: str = "rb", block_size: Any = None, **options: Any) -> Any:
        with self._answer():
            return super()._open(path, mode, block_size, **options)


def main(shards: int = 400, answer_ms: float = 50) -> None:
    fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
    SlowFileSystem.answer_s = answer_ms / 1000

    def label(step: str, size: int, cost: StepCost) -> str:
        return f"{step}, {size:,} shards, {cost.num_requests / size:.1f} requests each"

    def aim(step: str, cost: StepCost) -> str:
        minutes, cpu_minutes = (one * LARGE / shards / 60 for one in (cost.wall_s, cost.cpu_s))
        return f"{LARGE:,} shards: {minutes:.1f} min, of CPU time {cpu_minutes:.1f}"

    rows = growth_rows(costs, shards, GROWTH, "wall_s", label, aim)
    results.publish("slow_store", f"Small files on a store that answers after {answer_ms:g} ms", rows)


@dataclass(frozen=True)
class StepCost(timing.Cost):
    num_requests: int = 0


def costs(num_shards: int) -> Mapping[str, StepCost]:
    with TemporaryDirectory() as name:
        work = planned(Path(name), num_shards)
        url = as_path(f"slow://{work.paths.root}")
        return {step: _cost(action) for step, action in steps(url, [*work.spans]).items()}


def steps(root: AnyPath, shards: Sequence[str]) -> Mapping[str, Callable[[], object]]:
    paths = DatasetPaths(root)
    return {
        "which are finished, as prepare asks": lambda: [*each(partial(finished_record, paths), shards, root)],
        "data status": partial(read_status, root),
        "data validate --quick": lambda: validate(Inventory.read(root), quick=True, workers=1, on_shard=lambda *_: None),
        "index of a split": lambda: Dataset.open(root).index_table("train"),
    }  # fmt: skip


def _cost(action: Callable[[], object]) -> StepCost:
    before = SlowFileSystem.num_requests
    cost = timing.cost_of(action)
    return StepCost(**vars(cost), num_requests=SlowFileSystem.num_requests - before)


if __name__ == "__main__":
    typer.run(main)
