"""Makes one shard: decodes and writes each of its listed clips, which ends in exactly one state.

Any runner can call `process_shard`: it takes plan rows, writes files and returns a small record.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.done_record import DoneRecord, MelSums, count_states
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.dataset.writer import ShardWriter
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import PreparedClip, failed, without_video
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.member_file import ArchiveChangedError
from cavsync.pipeline.storage.member_path import MemberPath
from cavsync.pipeline.storage.path import AnyPath, MediaPath, as_path, read_range

OnClip = Callable[[ClipState], None]

# A video that its store refuses is given up after MAX_READS tries if the store serves one of NUM_OTHERS other videos.
MAX_READS, NUM_OTHERS = 3, 4


class VideosGoneError(CavsyncError):
    """The folder of the videos disappeared during the run."""


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to make: its plan rows, in plan order."""

    rows: Sequence[PlanRow]
    config: PrepareConfig
    paths: DatasetPaths
    videos: AnyPath | None = None  # the folder or archive that all videos are in, if there is one
    members: Mapping[str, MemberPath] = field(default_factory=dict)  # of the sources that are in archives
    damaged: Sequence[str] = ()  # a sentence for each archive whose members are not all known

    def path_of(self, source: str) -> MediaPath:
        return self.members.get(source) or as_path(source)


def process_shard(task: ShardTask, decoder: DecoderProcess, on_clip: OnClip) -> DoneRecord:
    """Write the shard of `task` and return its done-record.

    `on_clip` gets the state of each clip. A clip that cannot be prepared is counted, never raised; an error
    of the target (disk full, no permission) is raised as OSError and leaves nothing under a final name.
    """
    started, mel = time.perf_counter(), MelSums()
    with ShardWriter(task.paths, task.rows[0].shard) as writer:
        for row in task.rows:
            clip = without_video(row, task.damaged) or _prepared(row, task, decoder)
            if clip.mel is None:
                writer.add_failed(clip.row)
            else:
                writer.add(clip.row, clip.frames, clip.mel, clip.audio)
                mel += MelSums.of(clip.mel)
            on_clip(clip.state)
        seconds = round(time.perf_counter() - started, 3)
        return writer.finish(mel, seconds, _replaced(task.rows))


def _prepared(row: PlanRow, task: ShardTask, decoder: DecoderProcess) -> PreparedClip:
    """The clip of a row that has a video. Raises StoreError where the store fails for more than this one."""
    for _ in range(MAX_READS):
        try:
            clip = decoder.prepare(row, task.config, task.members.get(str(row.source)))
        except ArchiveChangedError:
            raise
        except StoreError as error:
            unread = error
        else:
            if clip.state in (ClipState.MISSING, ClipState.TIMEOUT):
                _require_folder(task.videos)
            return clip
        _require_folder(task.videos)
    _require_readable(row, task, unread)
    return failed(row, ClipState.DECODE_ERROR, f"not read in {MAX_READS} tries: {unread}")


def _require_readable(row: PlanRow, task: ShardTask, unread: StoreError) -> None:
    """Raises StoreError where the store serves none of the shard's other videos either.

    One video that its store refuses is a failed clip; a store that serves no video is busy or forbids reading, and no
    shard may finish with every clip failed.
    """
    sources = dict.fromkeys(other.source for other in task.rows if other.source is not None)
    for source in islice((source for source in sources if source != row.source), NUM_OTHERS):
        try:
            with suppress(FileNotFoundError):
                read_range(task.path_of(source), 0, 1)
            return
        except StoreError as error:
            unread = error
    raise unread


def _require_folder(videos: AnyPath | None) -> None:
    """Raises VideosGoneError or StoreError where the folder of all videos is gone.

    One absent video is a missing clip; an absent folder is an unplugged disk or a store that is down, and no shard may
    finish with every clip missing.
    """
    if videos is not None and not (videos.is_dir() or videos.is_file()):
        raise VideosGoneError(
            f"{videos}, the folder of the videos, is gone since the run began. Finished shards are kept; "
            "bring it back and repeat the command to continue."
        )


def _replaced(rows: Sequence[PlanRow]) -> dict[str, int] | None:
    """For a shard of a retry: how many of its clips had each state before."""
    return count_states(row.replaces for row in rows if row.replaces is not None) or None
