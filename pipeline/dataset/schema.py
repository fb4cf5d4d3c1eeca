"""The contract of a dataset: its files, the names in a tar, the states of a clip, and its units.

A dataset is a folder:

    dataset.json                 what was prepared, how, and how many clips ended in each state
    plan.parquet                 one row per listed clip (plan_row.py), written before any decoding
    shards/<split>-00000.tar     <key>.00.jpg ... <key>.15.jpg, <key>.json, <key>.mel.npy, with --keep-audio also
                                 <key>.flac or <key>.opus
    index/<split>-00000.parquet  one row per listed clip of that shard (index_row.py)
    done/<split>-00000.json      the done-record (done_record.py), written last: without it the shard is not finished
"""

from enum import StrEnum
from typing import Any

# 2: the index names gaps, orientation, pixel shape and audio channel.
SCHEMA_VERSION = 2

MEL_ROWS_PER_S = 100  # one Kaldi frame every 10 ms
NUM_MELS = 128
SAMPLE_RATE_HZ = 16_000


class ClipState(StrEnum):
    """The outcome of a listed clip; every listed clip ends in exactly one state."""

    OK = "ok"
    MISSING = "missing"
    DUPLICATE = "duplicate"
    NO_VIDEO = "no_video"
    NO_AUDIO = "no_audio"
    TOO_SHORT = "too_short"
    FILTERED = "filtered"
    DECODE_ERROR = "decode_error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


class MediaError(Exception):
    """A clip or file that cannot be decoded. In a preparation it becomes the clip's `state` and `reason` in the index."""

    def __init__(self, state: ClipState, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason

    def __reduce__(self) -> Any:
        return type(self), (self.state, self.reason)  # it is pickled by the decoder's process


def clip_key(clip_id: str, start_s: float) -> str:
    """`<id>_<start in ms, 8 digits>`: the same clip in two lists has one key."""
    return f"{clip_id}_{round(start_s * 1000):08d}"


def frame_member(key: str, frame: int) -> str:
    return f"{key}.{frame:02d}.jpg"


def json_member(key: str) -> str:
    return f"{key}.json"


def mel_member(key: str) -> str:
    return f"{key}.mel.npy"


def audio_member(key: str, codec: str) -> str:
    return f"{key}.{codec}"
