"""Bookkeeping of very many clips whose shards are there: planning, what is finished, status, the start of a loader.

    python -m benchmarks.many_shards [--rows N]

Twenty million clips are ten AudioSets, in 40,000 shards; all shards are links to one, so that they weigh the bookkeeping and not the bytes. Each
step runs in a process of its own. `benchmarks.plan` also makes and validates the shards.
The last three steps import torch, which takes seconds whatever the number of clips.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from benchmarks.plan import plan, start_loader
from benchmarks.support import large, results, timing
from benchmarks.support.growth import growth_rows
from cavsync.pipeline.dataset.done_record import finished_record
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.inspection.status import read_status
from cavsync.pipeline.plan.plan import Plan

GROWTH = 10


def main(rows: int = 20_000_000) -> None:
    table = growth_rows(costs, rows, GROWTH, "cpu_s")
    title = f"Bookkeeping of up to {rows:,} clips in {rows // large.SHARD_SIZE:,} shards, CPU time"
    results.publish("many_shards", title, table)


def costs(num_rows: int) -> Mapping[str, timing.Cost]:
    with TemporaryDirectory() as name:
        root = Path(name)
        large.write_lists(root / "raw" / "audioset", num_rows)
        (root / "raw" / "audioset" / "videos").mkdir()
        return {step: timing.in_own_process(action) for step, action in steps(root, num_rows).items()}


def steps(root: Path, num_rows: int) -> Mapping[str, Callable[[], object]]:
    """In their order: later ones need what earlier ones left."""
    dataset = root / "planned"
    return {
        "plan": partial(plan, root, num_rows),
        "(links for the steps below)": partial(link_shards, dataset),
        "which shards are finished": partial(find_finished, dataset),
        "data status": partial(read_status, dataset),
        "first start of a loader": partial(start_loader, dataset),  # makes the mapped index
        "start of a loader": partial(start_loader, dataset),
        "order of an epoch": partial(draw_order, num_rows),
    }


def link_shards(dataset: Path) -> None:
    paths = DatasetPaths(dataset)
    large.write_prepared(dataset, [*Plan.read(paths.plan).shards()])


def find_finished(dataset: Path) -> int:
    paths = DatasetPaths(dataset)
    return sum(finished_record(paths, shard) is not None for shard in Plan.read(paths.plan).shards())


def draw_order(num_rows: int) -> None:
    # Torch, which this imports, would weigh on the other steps too.
    from cavsync.train.data.sampler import epoch_order

    epoch_order(num_rows, seed=0, epoch=0)


if __name__ == "__main__":
    typer.run(main)
