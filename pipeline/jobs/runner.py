"""Runs the shards of a plan: here, one after the other, or as Ray tasks."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.dataset.writer import DatasetPaths
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.jobs.shard import ShardTask, process_shard
from cavsync.pipeline.plan.plan import Plan
from cavsync.pipeline.storage.path import Place

Record = dict[str, Any]  # a shard's done-record
OnClips = Callable[
    [Mapping[ClipState, int]], None
]  # hears how many clips ended in which state, since last told


@dataclass(frozen=True)
class Work:
    """The shards to make, and how."""

    plan: Plan
    spans: Mapping[str, slice]  # shard name -> its rows in the plan
    config: PrepareConfig
    paths: DatasetPaths
    videos: Place | None = None  # the folder that all videos are in, if there is one

    def tasks(self) -> Iterator[ShardTask]:
        for span in self.spans.values():
            rows = self.plan.rows(span)
            yield ShardTask(rows=rows, config=self.config, paths=self.paths, videos=self.videos)


@dataclass(frozen=True)
class Workers:
    """How many shards at a time; with `ray_address`, on that cluster."""

    number: int = 1
    ray_address: str | None = None


def run(work: Work, workers: Workers, on_clips: OnClips, say: Callable[[str], None]) -> Iterator[Record]:
    """Make every shard of `work`; yields done-records as they come. `say` gets lines for the user."""
    if workers.number == 1 and workers.ray_address is None:
        return _run_here(work, on_clips)
    from cavsync.pipeline.jobs.ray_runner import run_on_ray  # Ray takes half a second to import

    return run_on_ray(work, workers, on_clips, say)


def _run_here(work: Work, on_clips: OnClips) -> Iterator[Record]:
    with DecoderProcess() as decoder:
        for task in work.tasks():
            yield process_shard(task, decoder, lambda state: on_clips(Counter([state])))
