"""Checks one finished shard against its plan, its done-record and its own index.

The index is used for further checks only when its hash is the done-record's, so that it is as it was written.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.done_record import DoneRecord, count_states
from cavsync.pipeline.dataset.index_row import (
    KEPT_COLUMNS,
    ClipFacts,
    IndexRow,
    MediaFacts,
    index_rows,
    index_schema,
    read_index,
)
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.sampling import UPSTREAM_ROWS
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.inspection.clip_check import content_of, members_of, undecodable
from cavsync.pipeline.inspection.tar import Member, TarDamageError, read_members
from cavsync.pipeline.storage.path import AnyPath, local_copy, num_bytes, readable, sha256

STATES = frozenset(map(str, ClipState))
ORIENTATIONS = range(1, 9)  # as in EXIF
# Sums of times are off by less.
SAME_INSTANT_S = 1e-6


@dataclass(frozen=True, kw_only=True)
class ShardCheck:
    """The check of one shard; `run` may be called in another process."""

    paths: DatasetPaths
    shard: str
    num_planned: int  # rows of it in the plan
    keys_digest: str  # hash of their keys, in order
    config: Mapping[str, Any]  # the plan's inputs, with the fields of PrepareConfig
    quick: bool = False  # skips what reads the whole tar: its hash and the checksums of clips

    def run(self) -> list[str]:
        """The faults found, one phrase each; empty for an intact shard."""
        missing = [path for path in self._files() if not path.is_file()]
        if missing:
            return [f"{path.parent.name}/{path.name} is missing" for path in missing]
        try:
            record = DoneRecord.from_json(self.paths.done(self.shard).read_bytes())
        except ValueError:
            return [f"its done-record, done/{self.shard}.json, is damaged"]
        with self._local_tar() as tar:
            return list(self._wrong(record, tar))

    def _files(self) -> tuple[AnyPath, AnyPath, AnyPath]:
        return self.paths.done(self.shard), self.paths.tar(self.shard), self.paths.index(self.shard)

    @contextmanager
    def _local_tar(self) -> Iterator[AnyPath]:
        """The tar; a full check at a URL reads it more than once, so it gets a local copy."""
        tar = self.paths.tar(self.shard)
        if self.quick:
            yield tar
            return
        with local_copy(tar) as copy:
            yield copy

    def _wrong(self, record: DoneRecord, tar: AnyPath) -> Iterator[str]:
        yield from self._changed_tar(record, tar)
        wrong_index = list(self._changed_index(record))
        yield from wrong_index
        if not wrong_index:
            rows = index_rows(read_index(self.paths, self.shard))
            yield from self._wrong_counts(record, rows)
            yield from self._wrong_rows(rows)
            yield from self._wrong_tar(rows, tar)

    def _changed_tar(self, record: DoneRecord, tar: AnyPath) -> Iterator[str]:
        size = num_bytes(tar)
        if size != record.tar_bytes:
            yield f"tar has {size:,} bytes, the done-record says {record.tar_bytes:,}"
        elif not self.quick and sha256(tar) != record.tar_sha256:
            yield "tar has another sha256 than the done-record says: bytes of it have changed"

    def _changed_index(self, record: DoneRecord) -> Iterator[str]:
        index = self.paths.index(self.shard)
        if sha256(index) != record.index_sha256:
            yield "index has another sha256 than the done-record says: bytes of it have changed"
        else:
            lacking = set(index_schema().names) - set(pq.read_schema(readable(index)).names)
            if self.config.get("keep_audio") is None:
                lacking -= {*KEPT_COLUMNS}
            if lacking:
                yield f"index lacks the columns {', '.join(sorted(lacking))}"

    def _wrong_counts(self, record: DoneRecord, rows: Sequence[IndexRow]) -> Iterator[str]:
        if not len(rows) == self.num_planned == record.num_rows:
            yield (
                f"{self.num_planned} clips are planned, the index has {len(rows)} rows, the done-record says "
                f"{record.num_rows}"
            )
        elif digest_of(row.key for row in rows) != self.keys_digest:
            yield "the index lists other clips than the plan"
        if (states := count_states(row.state for row in rows)) != record.states:
            yield f"the index counts {states}, the done-record says {record.states}"

    def _wrong_rows(self, rows: Sequence[IndexRow]) -> Iterator[str]:
        for row in rows:
            if row.state not in STATES:
                yield f"{row.key}: {row.state!r} is no state"
            elif row.clip is not None:
                problems = chain(
                    self._wrong_times(row.clip), _wrong_facts(row.clip, row.media), self._wrong_kept(row)
                )
                yield from (f"{row.key}: {problem}" for problem in problems)
            elif not row.reason:
                yield f"{row.key}: state {row.state} without a reason"

    def _wrong_times(self, clip: ClipFacts) -> Iterator[str]:
        pts = np.array(clip.frame_pts_s)
        if len(pts) != self.config["num_frames"]:
            yield f"{len(pts)} frames instead of {self.config['num_frames']}"
        if np.any(np.diff(pts) < 0):
            yield "its frames are not in order of time"
        # The first frame may have come on screen before the clip began; no other time lies outside the clip.
        if np.any(pts > clip.duration_s) or len(set(pts[pts < 0])) > 1:
            yield f"frames at {pts.min():.3f} to {pts.max():.3f} s are outside its {clip.duration_s:.3f} s"
        starts, stops = np.array(clip.window_start), np.array(clip.window_stop)
        window_rows, total = self.config["window_rows"], clip.num_mel_rows
        last = max(UPSTREAM_ROWS if self.config["alignment"] == "upstream" else total, window_rows)
        if np.any(starts < 0) or np.any(stops > last) or np.any(stops - starts != window_rows):
            yield f"windows of rows {starts.min()} to {stops.max()} do not fit a log-mel of {total} rows"

    def _wrong_kept(self, row: IndexRow) -> Iterator[str]:
        codec, rate = self.config.get("keep_audio"), self.config.get("keep_audio_rate")
        found = row.kept and row.kept.kept_codec
        if found != codec:
            yield f"its audio is kept as {codec or 'no file'}, but the index says {found or 'none'}"
        elif row.members is not None and (row.members.audio_offset is None) != (codec is None):
            yield f"its audio is kept as {codec or 'no file'}, but the index says {'where one is' if codec is None else 'of none where it is'}"
        elif row.kept and rate not in (str(row.kept.kept_rate_hz), "source"):
            yield f"its audio is kept at {row.kept.kept_rate_hz} Hz; keep_audio_rate is {rate}"

    def _wrong_tar(self, rows: Sequence[IndexRow], tar: AnyPath) -> list[str]:
        """Compare the tar with the index: headers, checksums, and one decoded clip if those are right."""
        prepared = [row for row in rows if row.state == ClipState.OK]
        # Headers are all over the tar: over a network, reading them reads all of it.
        found = list(_wrong_headers(tar, prepared)) if isinstance(tar, Path) else []
        with tar.open("rb") as file:
            if not self.quick:
                found += _wrong_checksums(file, prepared)
            if prepared and not found:
                row = prepared[len(prepared) // 2]
                found += (f"{row.key}: {problem}" for problem in undecodable(file, row, self.config))
        return found


def _wrong_facts(clip: ClipFacts, media: MediaFacts | None) -> Iterator[str]:
    for name, gaps in (("audio", clip.audio_gaps_s), ("frames", clip.frame_gaps_s)):
        bounds_s = np.array(gaps).ravel()  # start, stop, start, stop, ...
        if len(bounds_s) != 2 * len(gaps) or np.any(np.diff(bounds_s) <= 0):
            yield f"its gaps in the {name} are no [start, stop) one after the other"
        elif len(gaps) and (bounds_s[0] < 0 or bounds_s[-1] > clip.duration_s + SAME_INSTANT_S):
            yield (
                f"gaps in the {name} at {bounds_s[0]:.3f} to {bounds_s[-1]:.3f} s are outside its "
                f"{clip.duration_s:.3f} s"
            )
    if clip.orientation not in ORIENTATIONS:
        yield f"orientation {clip.orientation} is none of 1 to 8"
    num_channels = media.num_channels if media else None
    if clip.audio_channel is not None and not 0 <= clip.audio_channel < (num_channels or np.inf):
        yield f"audio channel {clip.audio_channel} is none of the file's {num_channels}, counted from 0"
    ratio = media.sample_aspect_ratio if media else None
    if ratio is not None and not 0 < ratio < np.inf:
        yield f"sample aspect ratio {ratio} is no ratio"


def digest_of(keys: Iterable[str]) -> str:
    """Hash of a list of keys, which is small enough to send to another process."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _wrong_headers(tar: Path, rows: Sequence[IndexRow]) -> Iterator[str]:
    """The first difference between the tar's headers and the index."""
    expected = chain.from_iterable(map(members_of, rows))
    try:
        for found, wanted in zip_longest(read_members(tar), expected):
            if found is None or wanted is None:
                more, member = ("index", wanted) if found is None else ("tar", found)
                yield f"only the {more} has {member.name}"
                return
            if found != wanted:
                yield f"the tar has {_described(found)} where the index says {_described(wanted)}"
                return
    except TarDamageError as error:
        yield f"tar: {error}"


def _described(member: Member) -> str:
    return f"{member.name} ({member.size:,} bytes at {member.offset:,})"


def _wrong_checksums(tar: Any, rows: Sequence[IndexRow]) -> Iterator[str]:
    for row in rows:
        crc = 0
        for member in members_of(row):
            crc = zlib.crc32(content_of(tar, member), crc)
        if row.members is not None and crc != row.members.crc32:
            yield f"{row.key}: its bytes have changed (another crc32 than the index says)"
