"""One listed clip of a finished shard: the columns of index/<shard>.parquet, and the same in nested records.

Readers that need a few columns of many clips stay with Arrow or pandas; single clips become `IndexRow`s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import PlanRow, plan_schema
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.storage.parquet import read_table

# The decoder process makes rows and no table; see plan_row.py.
if TYPE_CHECKING:
    import pyarrow as pa

# What the plan says of a listed clip and the index repeats.
_PLANNED = [field.name for field in fields(PlanRow) if field.name not in ("shard", "duplicate", "replaces")]
# The columns that `missing_s` needs.
GAP_COLUMNS = ("audio_gaps_s", "frame_gaps_s")
# The columns of kept audio, which an index that was written before they came lacks.
KEPT_COLUMNS = ("kept_codec", "kept_rate_hz", "kept_channels", "audio_offset", "audio_size")
# Fields of an IndexRow that stand for several columns.
_GROUPS = ("media", "clip", "kept", "members")


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFacts:
    """What the source file says about itself, and which decoder read it."""

    decoder: str
    video_codec: str | None = None
    audio_codec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    sample_aspect_ratio: float | None = None  # of the stored pixels, width to height
    sample_rate_hz: int | None = None
    num_channels: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFacts:
    """What is known of a clip in state ok; times are seconds from the clip's start."""

    duration_s: float
    frame_pts_s: Sequence[float]  # (frames,)
    num_mel_rows: int
    # (frames,): mel rows [start, stop) of each frame at the prepared window length; loaders may recompute them.
    window_start: Sequence[int]
    window_stop: Sequence[int]
    silent: bool
    still: bool
    orientation: int  # how the stored frames were turned and mirrored, 1 to 8 as in EXIF
    audio_channel: int | None  # that was taken, from 0; None for the mean of all
    audio_gaps_s: Sequence[Sequence[float]]  # (gaps, 2): [start, stop) where samples are missing
    # (gaps, 2): [start, stop) where no frame is, or none could be decoded.
    frame_gaps_s: Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptAudio:
    """The audio file that a shard holds of a clip; its first sample is at the clip's start."""

    kept_codec: str  # an AudioCodec
    kept_rate_hz: int  # at which its samples were encoded
    kept_channels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TarMembers:
    """Where the bytes of a clip are in the tar of its shard."""

    frame_offset: Sequence[int]  # (frames,)
    frame_size: Sequence[int]  # (frames,)
    mel_offset: int
    mel_size: int
    json_offset: int
    json_size: int
    audio_offset: int | None = None  # of the audio file; None without one
    audio_size: int | None = None
    crc32: int  # of all members, in tar order

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(offset, size) of each member, in tar order: the frames, the JSON, the log-mel, and the audio file if there is one."""
        spans = [*zip(self.frame_offset, self.frame_size, strict=True)]
        spans += [(self.json_offset, self.json_size), (self.mel_offset, self.mel_size)]
        if self.audio_offset is not None and self.audio_size is not None:
            spans.append((self.audio_offset, self.audio_size))
        return spans


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexRow:
    """One row of `index_schema`, its columns grouped by what they describe."""

    key: str
    clip_id: str
    split: str
    listed_in: str | None = None
    source: str | None = None
    source_start_s: float | None = None
    start_s: float
    end_s: float
    labels: Sequence[str] = ()
    state: str  # a ClipState
    reason: str | None = None  # a sentence; None when the state is ok
    media: MediaFacts | None = None  # None where the file could not be opened
    clip: ClipFacts | None = None  # None unless the state is ok, as `members`
    kept: KeptAudio | None = None  # None also where no audio was kept
    members: TarMembers | None = None
    shard: str = ""  # no column: the name of the index file says it

    @classmethod
    def of(
        cls,
        planned: PlanRow,
        state: ClipState,
        reason: str | None = None,
        media: MediaFacts | None = None,
        clip: ClipFacts | None = None,
        kept: KeptAudio | None = None,
    ) -> "IndexRow":
        """The outcome of a planned clip."""
        listed = {name: getattr(planned, name) for name in _PLANNED}
        return cls(**listed, state=state, reason=reason, media=media, clip=clip, kept=kept)


@cache
def index_schema() -> "pa.Schema":
    """The columns of an index file."""
    import pyarrow as pa

    # Any: the stubs of pyarrow know no common type of fields.
    columns: list[Any] = [
        *[plan_schema().field(name) for name in _PLANNED],
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("decoder", pa.string()),
        pa.field("video_codec", pa.string()),
        pa.field("audio_codec", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("sample_aspect_ratio", pa.float64()),
        pa.field("sample_rate_hz", pa.int32()),
        pa.field("num_channels", pa.int32()),
        pa.field("duration_s", pa.float64()),
        pa.field("frame_pts_s", pa.list_(pa.float64())),
        pa.field("num_mel_rows", pa.int32()),
        pa.field("window_start", pa.list_(pa.int32())),
        pa.field("window_stop", pa.list_(pa.int32())),
        pa.field("silent", pa.bool_()),
        pa.field("still", pa.bool_()),
        pa.field("orientation", pa.int32()),
        pa.field("audio_channel", pa.int32()),
        pa.field("audio_gaps_s", pa.list_(pa.list_(pa.float64()))),
        pa.field("frame_gaps_s", pa.list_(pa.list_(pa.float64()))),
        pa.field("kept_codec", pa.string()),
        pa.field("kept_rate_hz", pa.int32()),
        pa.field("kept_channels", pa.int32()),
        pa.field("frame_offset", pa.list_(pa.int64())),
        pa.field("frame_size", pa.list_(pa.int32())),
        pa.field("mel_offset", pa.int64()),
        pa.field("mel_size", pa.int32()),
        pa.field("json_offset", pa.int64()),
        pa.field("json_size", pa.int32()),
        pa.field("audio_offset", pa.int64()),
        pa.field("audio_size", pa.int32()),
        pa.field("crc32", pa.uint32()),
    ]
    return pa.schema(columns)


def index_table(rows: Iterable[IndexRow]) -> "pa.Table":
    """The rows as a table of `index_schema`."""
    import pyarrow as pa

    return pa.Table.from_pylist([row_columns(row) for row in rows], schema=index_schema())


def read_index(
    paths: DatasetPaths, shard: str, columns: Sequence[str] | None = None, filters: list[Any] | None = None
) -> "pa.Table":
    """Index rows of a finished shard. Raises DamagedFileError, which names the file and the way out.

    Columns that came later are null in an index that was written before.
    """
    way_out = (
        f"`cavsync data validate {paths.root} --fix` removes damaged shards; then repeat the prepare command."
    )
    return read_table(paths.index(shard), way_out, columns, filters, schema=index_schema())


def index_rows(table: "pa.Table") -> list[IndexRow]:
    """The rows of a table that has all columns of `index_schema`, and may have `shard`."""
    return [_row(columns) for columns in table.to_pylist()]


def missing_s(table: "pa.Table") -> np.ndarray:
    """float64 (clips,): the seconds that each clip lacks of audio, or of frames, whichever are more.

    The clips are the rows of `table`, which has GAP_COLUMNS; those that are not in state ok lack nothing.
    """
    audio_s, frames_s = (_total_s(table[name]) for name in GAP_COLUMNS)
    longer_s: np.ndarray = np.maximum(audio_s, frames_s)
    return longer_s


def row_columns(row: IndexRow) -> dict[str, Any]:
    """The row as name of column -> value; the names of absent groups are left out."""
    groups: list[Any] = [row, *filter(None, (row.media, row.clip, row.kept, row.members))]
    flat = {field.name: getattr(group, field.name) for group in groups for field in fields(group)}
    return {name: value for name, value in flat.items() if name not in _GROUPS}


def _row(columns: Mapping[str, Any]) -> IndexRow:
    is_ok = columns["state"] == ClipState.OK
    return IndexRow(
        **{name: columns[name] for name in (*_PLANNED, "state", "reason")}
        | {"labels": columns["labels"] or ()},
        media=None if columns["decoder"] is None else MediaFacts(**_part(columns, MediaFacts)),
        clip=ClipFacts(**_part(columns, ClipFacts)) if is_ok else None,
        kept=None if columns["kept_codec"] is None else KeptAudio(**_part(columns, KeptAudio)),
        members=TarMembers(**_part(columns, TarMembers)) if is_ok else None,
        shard=columns.get("shard", ""),
    )


def _total_s(gaps: "pa.ChunkedArray") -> np.ndarray:
    """float64 (clips,): the sum of each clip's gaps, from lists (clips,) of lists (gaps,) of [start, stop)."""
    import pyarrow.compute as pc

    num_gaps = pc.fill_null(pc.list_value_length(gaps), 0).to_numpy()
    bounds_s = pc.list_flatten(pc.list_flatten(gaps)).to_numpy().reshape(-1, 2)  # (gaps of all clips, 2)
    clips = np.repeat(np.arange(len(gaps)), num_gaps)
    total_s = np.bincount(clips, bounds_s[:, 1] - bounds_s[:, 0], len(gaps))
    return total_s.astype(np.float64)  # integers where there is no gap at all


def _part(columns: Mapping[str, Any], record: Any) -> dict[str, Any]:
    return {field.name: columns[field.name] for field in fields(record)}
