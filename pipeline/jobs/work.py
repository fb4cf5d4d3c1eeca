"""The input of a runner: the shards to make, and the number of workers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.jobs.shard import ShardTask
from cavsync.pipeline.plan.plan import Plan
from cavsync.pipeline.plan.planner import DAMAGED
from cavsync.pipeline.storage.path import AnyPath

# Called with how many clips ended in which state since the last call.
OnClips = Callable[[Mapping[ClipState, int]], None]


@dataclass(frozen=True)
class Work:
    """Shards of a plan to make, and their configuration."""

    plan: Plan
    spans: Mapping[str, slice]  # shard name -> its rows in the plan
    config: PrepareConfig
    paths: DatasetPaths
    archives: ArchiveSet  # those among the videos
    videos: AnyPath | None = None  # the folder or archive that all videos are in, if there is one

    def tasks(self) -> Iterator[ShardTask]:
        for span in self.spans.values():
            rows = self.plan.rows(span)
            yield ShardTask(
                rows=rows,
                config=self.config,
                paths=self.paths,
                videos=self.videos,
                members=self.archives.members(row.source for row in rows),
                damaged=self.plan.inputs.get(DAMAGED, ()),
            )


@dataclass(frozen=True)
class Workers:
    """The number of shards made at a time; with `ray_address`, on that cluster."""

    number: int = 1
    ray_address: str | None = None
