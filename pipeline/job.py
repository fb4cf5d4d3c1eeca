"""One shard: every listed clip of it decoded and written, each ending in exactly one state.

Any runner can call `process_shard`: it gets rows, leaves files, and returns a small record.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cavsync.pipeline.config import PrepareConfig
from cavsync.pipeline.decode import DecodedClip, open_media
from cavsync.pipeline.mel import log_mel
from cavsync.pipeline.sampling import window_starts
from cavsync.pipeline.schema import ClipState, MediaError
from cavsync.pipeline.shards import DatasetPaths, ShardWriter
from cavsync.pipeline.sound import SILENT_PEAK

Row = Mapping[str, Any]  # the columns of PLAN_SCHEMA
OnClip = Callable[[ClipState], None]


@dataclass
class MelSums:
    """What the mean and deviation of a dataset's log-mel are computed from."""

    count: int = 0
    sum: float = 0.0
    sum_squares: float = 0.0

    def add(self, mel: np.ndarray) -> None:
        values = mel.astype(np.float64)
        self.count += values.size
        self.sum += float(values.sum())
        self.sum_squares += float(np.square(values).sum())


def process_shard(rows: Sequence[Row], config: PrepareConfig, paths: DatasetPaths, on_clip: OnClip) -> Any:
    """Write the shard that holds `rows` (all of one shard, in plan order) and return its done-record.

    `on_clip` hears the state of each clip. A clip that cannot be prepared is counted, never raised; an error
    of the target (disk full, no permission) is raised as OSError and leaves nothing under a final name.
    """
    started = time.perf_counter()
    sums = MelSums()
    with ShardWriter(paths, rows[0]["shard"]) as writer:
        for row in rows:
            on_clip(_process_clip(row, config, writer, sums))
        return writer.finish(mel=asdict(sums), seconds=round(time.perf_counter() - started, 3))


def _process_clip(row: Row, config: PrepareConfig, writer: ShardWriter, sums: MelSums) -> ClipState:
    columns = dict(row)
    try:
        clip = _decode(columns, config)
    except MediaError as error:
        writer.add_failed(columns | {"state": error.state, "reason": error.reason})
        return error.state
    mel = log_mel(clip.waveform).astype(np.float16)  # as stored, so that the sums are of what is read
    writer.add(columns | _described(clip, len(mel), config), clip.frames, mel)
    sums.add(mel)
    return ClipState.OK


def _decode(columns: dict[str, Any], config: PrepareConfig) -> DecodedClip:
    """The clip of a plan row; adds the file's facts to `columns` as soon as they are known."""
    if columns["duplicate"]:
        raise MediaError(ClipState.DUPLICATE, f"{columns['key']} is listed before, in an earlier row")
    if columns["source"] is None:
        raise MediaError(ClipState.MISSING, "no video of this clip was found")
    with open_media(columns["source"], config.clip_timeout_s) as media:
        columns.update(asdict(media.facts))
        duration_s = columns["end_s"] - columns["start_s"]
        return media.decode(columns["source_start_s"], duration_s, config)


def _described(clip: DecodedClip, num_mel_rows: int, config: PrepareConfig) -> dict[str, Any]:
    starts = window_starts(clip.frame_pts_s, num_mel_rows, config.window_rows, config.alignment)
    return {
        "state": ClipState.OK,
        "reason": None,
        "duration_s": clip.duration_s,
        "frame_pts_s": clip.frame_pts_s.tolist(),
        "window_start": starts.tolist(),
        "window_stop": (starts + config.window_rows).tolist(),
        "silent": bool(np.abs(clip.waveform).max() < SILENT_PEAK),
        "still": clip.still,
    }
