"""What grows with the number of clips: planning, making shards, resuming, watching, validating, starting to load.

    python -m benchmarks.plan [--rows N]

The lists have AudioSet's form. For planning, four of five clips have a video, as of AudioSet today; the shards are
those of a folder that holds one video only, so that they weigh the bookkeeping and not the bytes of clips. Each step
runs in a process of its own, whose greatest memory is in the table.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import typer

from benchmarks.support import clips as sample_clips
from benchmarks.support import large, results, timing
from benchmarks.support.growth import growth_rows
from benchmarks.support.program import cavsync
from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.jobs.work import Work
from cavsync.pipeline.lists.listing import official_listing
from cavsync.pipeline.lists.manifest import read_manifest
from cavsync.pipeline.lists.videos import VideoTree
from cavsync.pipeline.plan.plan import Plan
from cavsync.pipeline.plan.planner import plan_for

GROWTH = 4  # from one size to the next
PLAN, MAKE, AGAIN, STATUS = "plan", "prepare, one video", "prepare again", "data status"
VALIDATE, MAP, LOAD = "data validate", "first start of a loader", "start of a loader"
AIMS = {PLAN: "< 30 s, < 1,536 MiB"}


def main(rows: int = 2_000_000) -> None:
    num_shards = rows // large.SHARD_SIZE
    table = growth_rows(costs, rows, GROWTH, "wall_s", aim=lambda step, cost: AIMS.get(step, ""))
    results.publish("plan", f"Bookkeeping of up to {rows:,} clips in {num_shards:,} shards", table)


def costs(num_rows: int) -> Mapping[str, timing.Cost]:
    with TemporaryDirectory() as name:
        root = Path(name)
        raw = root / "raw" / "audioset"
        large.write_lists(raw, num_rows)
        (raw / "videos").mkdir()
        shutil.copy(sample_clips.synthesised() / "small-1.mp4", raw / "videos" / f"{next(large.ids(1))}.mp4")
        names = [f"train-{number:05d}" for number in range(num_rows // large.SHARD_SIZE)]
        large.write_prepared(root / "prepared", names)
        return {step: timing.in_own_process(action) for step, action in steps(root, num_rows).items()}


def steps(root: Path, num_rows: int) -> Mapping[str, Callable[[], object]]:
    """In their order: later ones need what earlier ones left."""
    prepare = partial(cavsync, "prepare", "audioset", "--root", root, "--layout", "cut")
    dataset = root / "data" / "audioset"
    return {
        PLAN: partial(plan, root, num_rows),
        MAKE: prepare,
        AGAIN: prepare,
        STATUS: partial(cavsync, "data", "status", dataset, "--json"),
        VALIDATE: partial(cavsync, "data", "validate", dataset),
        MAP: partial(start_loader, root / "prepared"),  # makes the mapped index
        LOAD: partial(start_loader, root / "prepared"),
    }


def plan(root: Path, num_rows: int) -> None:
    """Reads the list, finds the videos, writes the plan; the folder of videos is made up."""
    listing = official_listing(read_manifest(Path("audioset")), root, None, [], "cut")
    names = sorted(f"{clip_id}.mp4" for number, clip_id in enumerate(large.ids(num_rows)) if number % 5)
    tree = VideoTree(listing.videos, pa.array(names, pa.string()), holds="cut")
    del names
    plan_for(replace(listing, tree=lambda: tree), DatasetPaths(root / "planned"), PrepareConfig(), _Silence())


def planned(root: Path, num_shards: int) -> Work:
    """The work of `num_shards` shards, whose files are there already, links to one."""
    num_clips = num_shards * large.SHARD_SIZE
    large.write_lists(root / "raw" / "audioset", num_clips)
    (root / "raw" / "audioset" / "videos").mkdir()
    plan(root, num_clips)
    paths = DatasetPaths(root / "planned")
    made = Plan.read(paths.plan)
    spans = made.shards()
    large.write_prepared(paths.root, [*spans])
    return Work(made, spans, PrepareConfig(), paths, ArchiveSet(root / "raw" / "audioset" / "videos"))


class _Silence:
    def log(self, line: str) -> None: ...

    def start(self, num_clips: int, num_done: int) -> None: ...

    def clips(self, states: Mapping[object, int]) -> None: ...


def start_loader(dataset: Path) -> None:
    """From nothing to the first batch."""
    # Torch would weigh on the other steps too.
    from cavsync.model.config import sync_base
    from cavsync.train.data.config import DataConfig
    from cavsync.train.data.pair_rule import SampleIndex
    from cavsync.train.data.pairs import ClipPairs

    pairs = ClipPairs(DataConfig(path=str(dataset)), sync_base(), seed=0)
    pairs.batch([SampleIndex(0, clip) for clip in range(8)])


if __name__ == "__main__":
    typer.run(main)
