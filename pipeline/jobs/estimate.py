"""Estimates the time and space of a preparation from its plan and a few clips that it prepares and discards.

The sample spans all file sizes and is always the same. It becomes a shard in a temporary folder by the code of a run,
so the figures include all that a run spends on a clip.
"""

import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.done_record import finished_record
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import PlanRow, plan_rows
from cavsync.pipeline.jobs.estimate_sample import (
    NUM_SIZED,
    Sample,
    bytes_without_clips,
    prepare_sample,
    spread_by_size,
)
from cavsync.pipeline.lists.listing import Listing
from cavsync.pipeline.plan.moved import move_videos
from cavsync.pipeline.plan.plan import Plan
from cavsync.pipeline.plan.planner import PrepareError, Reporter, plan_for
from cavsync.pipeline.storage.path import AnyPath, each


@dataclass(frozen=True, kw_only=True)
class PrepareEstimate:
    """The remaining work, and the time and space that it should take with `num_workers`."""

    num_listed: int
    num_finished: int  # listed clips of finished shards
    num_duplicate: int
    num_missing: int
    num_found: int  # clips to decode
    num_shards: int
    num_workers: int
    sample: Sample
    media_s: float
    core_s: float
    wall_s: float
    num_bytes: int
    free_bytes: int | None  # None for a URL


@dataclass(frozen=True)
class _PlanElsewhere(DatasetPaths):
    """Paths of a dataset whose plans alone lie elsewhere."""

    elsewhere: Path

    @property
    def plan(self) -> Path:
        return self.elsewhere

    def retry_plan(self, number: int) -> Path:
        return self.elsewhere.with_name(f"plan-r{number}.parquet")


def estimate(
    listing: Listing,
    out: AnyPath,
    config: PrepareConfig,
    num_workers: int,
    reporter: Reporter,
    *,
    videos_moved: bool = False,
) -> PrepareEstimate | None:
    """The estimate; None where all shards are finished. Reads lists, folder and a sample of the videos; writes nothing to `out`.

    Raises what a run would raise before it decodes, and PrepareError where no clip left has a video.
    """
    with tempfile.TemporaryDirectory(prefix="cavsync-estimate-") as folder:
        paths = _PlanElsewhere(out, Path(folder) / "plan.parquet")
        if DatasetPaths(out).plan.is_file():
            paths.plan.write_bytes(DatasetPaths(out).plan.read_bytes())
        if videos_moved:
            move_videos(paths, listing.videos, listing.archives, reporter)
        plan = plan_for(listing, paths, config, reporter)
        return _estimate(listing, plan, paths, config, num_workers)


def _estimate(
    listing: Listing, plan: Plan, paths: _PlanElsewhere, config: PrepareConfig, num_workers: int
) -> PrepareEstimate | None:
    names = list(plan.shards())
    records = each(partial(finished_record, paths), names, paths.root)
    shards = [name for name, record in zip(names, records, strict=True) if record is None]
    if not shards:
        return None
    left = plan.table.filter(pc.is_in(plan.table["shard"], value_set=pa.array(shards, pa.string())))
    has_video = pc.and_(_is_there(left["source"], listing), pc.invert(left["duplicate"]))
    found, absent = left.filter(has_video), left.filter(pc.invert(has_video))
    if not len(found):
        raise PrepareError(
            f"Of {len(left):,} clips that are left to prepare, none has a video in {listing.videos}."
        )
    sample = prepare_sample(spread_by_size(_spread_rows(found), listing.archives), config, listing.archives)
    scale, num_busy = len(found) / sample.num_clips, min(num_workers, len(shards))
    num_duplicate = pc.sum(left["duplicate"]).as_py()
    return PrepareEstimate(
        num_listed=len(plan),
        num_finished=len(plan) - len(left),
        num_duplicate=num_duplicate,
        num_missing=len(absent) - num_duplicate,
        num_found=len(found),
        num_shards=len(shards),
        num_workers=num_workers,
        sample=sample,
        media_s=sample.media_s * scale,
        core_s=sample.core_s * scale + sample.start_core_s * num_busy,
        wall_s=sample.wall_s * scale / num_busy + sample.start_wall_s,
        num_bytes=round(sample.num_bytes * scale)
        + _bytes_without_clips(absent, len(shards))
        + paths.plan.stat().st_size,
        free_bytes=_free_bytes(paths.root),
    )


def _is_there(sources: Any, listing: Listing) -> Any:
    """For each clip, whether it has a video: lists that name files may name some that are not there."""
    if not listing.names_files:
        return pc.is_valid(sources)
    named = pc.unique(sources).to_pylist()
    are_there = each(listing.archives.is_there, named, listing.videos)
    found = [name for name, there in zip(named, are_there, strict=True) if there]
    return pc.is_in(sources, value_set=pa.array(found, pa.string()))


def _bytes_without_clips(absent: pa.Table, num_shards: int) -> int:
    """Bytes of all shards without the clips that have a video."""
    in_a_shard = plan_rows(absent.slice(0, len(absent) // num_shards))
    return num_shards * bytes_without_clips(in_a_shard)


def _spread_rows(rows: pa.Table) -> list[PlanRow]:
    """Up to NUM_SIZED rows at equal distances; the order of the table is random."""
    step = -(-len(rows) // NUM_SIZED)
    return plan_rows(rows.take(pa.array(range(0, len(rows), step), pa.int64())))


def _free_bytes(root: AnyPath) -> int | None:
    """Free bytes on the disk of the nearest existing folder above `root`; None for a URL."""
    if not isinstance(root, Path):
        return None
    path = root.resolve()
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free
