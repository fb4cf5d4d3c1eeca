"""Prepares a sample of clips into a temporary folder and measures time and space."""

import resource
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.writer import ShardWriter
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import without_video
from cavsync.pipeline.jobs.shard import ShardTask, process_shard
from cavsync.pipeline.storage.path import MediaPath, as_path, each, num_bytes

# Clips that are prepared, one from each of as many classes of file size.
NUM_SAMPLED = 12
# Files whose sizes make the classes.
NUM_SIZED = 1200


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Outcome and cost of the sampled clips."""

    states: Mapping[str, int]
    media_s: float
    core_s: float  # CPU time of all processes
    wall_s: float
    num_bytes: int
    start_core_s: float  # to start a decoder's process
    start_wall_s: float

    @property
    def num_clips(self) -> int:
        return sum(self.states.values())


@dataclass(frozen=True)
class _Made:
    """A sample shard, and its cost."""

    record: DoneRecord
    core_s: float
    num_bytes: int
    media_s: float


def spread_by_size(rows: Sequence[PlanRow], archives: ArchiveSet) -> list[PlanRow]:
    """At most NUM_SAMPLED rows: the middle one of each of as many equally large classes by file size."""
    sources = [archives.path_of(str(row.source)) for row in rows]
    sizes = each(_size, sources, as_path(str(rows[0].source)))
    by_size = sorted(zip(sizes, rows, strict=True), key=lambda sized: (sized[0], sized[1].key))
    ordered = [row for _, row in by_size]
    num_classes = min(NUM_SAMPLED, len(ordered))
    return [ordered[(2 * index + 1) * len(ordered) // (2 * num_classes)] for index in range(num_classes)]


def _size(source: MediaPath) -> int:
    try:
        return num_bytes(source)
    except OSError:  # gone since it was found; decoding it will fail
        return 0


def prepare_sample(rows: Sequence[PlanRow], config: PrepareConfig, archives: ArchiveSet) -> Sample:
    """The cost of the rows' clips in a running process, and the cost of starting that process.

    The middle clip is prepared twice: alone, and then together with all clips. The difference is the cost of the
    clips without the start of the process.
    """
    middle = rows[len(rows) // 2]
    alone, together = _make([middle], config, archives), _make([middle, *rows], config, archives)
    core_s = max(0.0, together.core_s - alone.core_s)
    wall_s = max(0.0, together.record.seconds - alone.record.seconds)
    states = dict(together.record.states)
    (state,) = alone.record.states
    states[state] -= 1
    return Sample(
        states={name: count for name, count in states.items() if count},
        media_s=together.media_s - alone.media_s,
        core_s=core_s,
        wall_s=wall_s,
        num_bytes=max(0, together.num_bytes - alone.num_bytes),
        start_core_s=max(0.0, alone.core_s - core_s / len(rows)),
        start_wall_s=max(0.0, alone.record.seconds - wall_s / len(rows)),
    )


def bytes_without_clips(rows: Sequence[PlanRow]) -> int:
    """Size of a shard of rows without a video."""
    clips = [without_video(row) for row in rows]
    with tempfile.TemporaryDirectory(prefix="cavsync-estimate-") as folder:
        with ShardWriter(DatasetPaths(Path(folder)), "empty-00000") as writer:
            for clip in filter(None, clips):
                writer.add_failed(clip.row)
            writer.finish()
        return _bytes_in(Path(folder))


def _make(rows: Sequence[PlanRow], config: PrepareConfig, archives: ArchiveSet) -> _Made:
    before = _core_s()
    with tempfile.TemporaryDirectory(prefix="cavsync-estimate-") as folder:
        paths = DatasetPaths(Path(folder))
        members = archives.members(row.source for row in rows)
        task = ShardTask(rows=rows, config=config, paths=paths, members=members)
        with DecoderProcess() as decoder:
            record = process_shard(task, decoder, lambda _: None)
        durations = pq.read_table(paths.index(rows[0].shard), columns=["duration_s"])["duration_s"]
        return _Made(record, _core_s() - before, _bytes_in(Path(folder)), pc.sum(durations).as_py() or 0.0)


def _core_s() -> float:
    """CPU time of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
