"""The shard contract: names, columns and states that every reader and writer of a dataset agrees on.

A dataset is a folder:

    dataset.json                 what was prepared, how, and how many clips ended in each state
    plan.parquet                 one row per listed clip, written once, before any decoding
    shards/<split>-00000.tar     <key>.00.jpg ... <key>.15.jpg, <key>.json, <key>.mel.npy
    index/<split>-00000.parquet  one row per listed clip of that shard (INDEX_SCHEMA)
    done/<split>-00000.json      written last: the shard is complete only if this exists
"""

from enum import StrEnum
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1

MEL_ROWS_PER_S = 100  # one Kaldi frame every 10 ms
NUM_MELS = 128
SAMPLE_RATE_HZ = 16_000


class ClipState(StrEnum):
    """How a listed clip ended; every listed clip ends in exactly one."""

    OK = "ok"
    MISSING = "missing"
    DUPLICATE = "duplicate"
    NO_VIDEO = "no_video"
    NO_AUDIO = "no_audio"
    TOO_SHORT = "too_short"
    DECODE_ERROR = "decode_error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    FILTERED = "filtered"


class MediaError(Exception):
    """A clip that cannot be prepared; expected, so it becomes the clip's `state` and `reason` in the index."""

    def __init__(self, state: ClipState, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason

    def __reduce__(self) -> Any:
        return type(self), (self.state, self.reason)  # a decoder's process sends it to the one that asked


# Any: the stubs of pyarrow know no common type of fields.
_PLAN_FIELDS: list[Any] = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("split", pa.string(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),  # "<split>-00000"
    pa.field("listed_in", pa.string()),  # "<file>:<row>", for messages
    pa.field("source", pa.string()),  # path or URL of the video; null when none was found
    pa.field("source_start_s", pa.float64()),  # where the clip begins inside that file
    pa.field("start_s", pa.float64()),  # as listed
    pa.field("end_s", pa.float64()),
    pa.field("labels", pa.list_(pa.string())),
    pa.field("duplicate", pa.bool_(), nullable=False),  # the same key stands in an earlier row
]

PLAN_SCHEMA = pa.schema(_PLAN_FIELDS)

_INDEX_FIELDS: list[Any] = [
    *[PLAN_SCHEMA.field(name) for name in PLAN_SCHEMA.names if name not in ("shard", "duplicate")],
    pa.field("state", pa.string(), nullable=False),
    pa.field("reason", pa.string()),  # a sentence, null when the state is ok
    # Facts of the file; null where it could not be opened.
    pa.field("decoder", pa.string()),
    pa.field("video_codec", pa.string()),
    pa.field("audio_codec", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("fps", pa.float64()),
    pa.field("sample_rate_hz", pa.int32()),
    pa.field("num_channels", pa.int32()),
    # What the shard holds; null unless the state is ok. Times are seconds from the clip's start.
    pa.field("duration_s", pa.float64()),
    pa.field("frame_pts_s", pa.list_(pa.float64())),
    pa.field("num_mel_rows", pa.int32()),
    pa.field("window_start", pa.list_(pa.int32())),  # mel rows [start, stop) of each frame at the
    pa.field("window_stop", pa.list_(pa.int32())),  # prepared window length; loaders may recompute
    pa.field("silent", pa.bool_()),
    pa.field("still", pa.bool_()),
    # Where the bytes are in the tar.
    pa.field("frame_offset", pa.list_(pa.int64())),
    pa.field("frame_size", pa.list_(pa.int32())),
    pa.field("mel_offset", pa.int64()),
    pa.field("mel_size", pa.int32()),
    pa.field("json_offset", pa.int64()),
    pa.field("json_size", pa.int32()),
    pa.field("crc32", pa.uint32()),  # of all the clip's members, in tar order
]

INDEX_SCHEMA = pa.schema(_INDEX_FIELDS)


def clip_key(clip_id: str, start_s: float) -> str:
    """`<id>_<start in ms, 8 digits>`: the same clip in two lists has one key."""
    return f"{clip_id}_{round(start_s * 1000):08d}"


def frame_member(key: str, frame: int) -> str:
    return f"{key}.{frame:02d}.jpg"


def json_member(key: str) -> str:
    return f"{key}.json"


def mel_member(key: str) -> str:
    return f"{key}.mel.npy"


# Key of the Parquet file's metadata under which the plan says what it was made from.
INPUTS = b"cavsync"
