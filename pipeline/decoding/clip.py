"""A listed clip decoded: from its plan row to its pictures, its log-mel and its row of the index."""

from dataclasses import asdict
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.requests import PreparedClip, Row, failed
from cavsync.pipeline.media.audio import SILENT_PEAK
from cavsync.pipeline.media.decode import DecodedClip, open_media
from cavsync.pipeline.media.mel import log_mel


def prepare_clip(row: Row, config: PrepareConfig) -> PreparedClip:
    """Decode the clip of a plan row that has a video. A clip that cannot be prepared gets a state, no exception."""
    columns = dict(row)
    try:
        clip = _decode(columns, config)
    except MediaError as error:
        return failed(columns, error.state, error.reason)
    mel = log_mel(clip.waveform).astype(np.float16)  # as stored, so that sums over it are of what is read
    return PreparedClip(columns | _described(clip, len(mel), config), clip.frames, mel)


def _decode(columns: dict[str, Any], config: PrepareConfig) -> DecodedClip:
    """The clip of a plan row; adds the file's facts to `columns` as soon as they are known."""
    with open_media(columns["source"], config.clip_timeout_s, config.decoder) as media:
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
