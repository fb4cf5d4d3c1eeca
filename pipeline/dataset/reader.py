"""Reading a prepared dataset: its summary, its index, and the content of a clip."""

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial, reduce
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.index_row import IndexRow, TarMembers, read_index
from cavsync.pipeline.dataset.inventory import read_json, with_moved_sources
from cavsync.pipeline.dataset.paths import DatasetPaths, retry_round, split_of
from cavsync.pipeline.dataset.schema import SCHEMA_VERSION, ClipState
from cavsync.pipeline.storage.path import AnyPath, as_path, each, read_range


class DatasetError(CavsyncError):
    """A folder cannot be read as a dataset; the message names the reason and the way out."""


@dataclass(frozen=True)
class Dataset:
    """A finished dataset that `cavsync prepare` wrote."""

    paths: DatasetPaths
    summary: dict[str, Any]
    """The content of its `dataset.json`: splits, counts by state, configuration, statistics of the log-mel."""

    @classmethod
    def open(cls, root: AnyPath | str) -> "Dataset":
        """The dataset in a folder, or at a URL.

        Raises DatasetError where `root` is no dataset, or one of another schema version.
        """
        paths = DatasetPaths(as_path(root))
        if not paths.summary.is_file():
            raise DatasetError(
                f"{root} is no prepared dataset: {paths.summary.name} is not there. "
                "Name the folder where it is now (`--data DIR` where a run names it), finish the run that was started, or make one with `cavsync prepare folder "
                "VIDEOS --out DIR`."
            )
        summary = read_json(paths.summary)
        if summary.get("schema_version") != SCHEMA_VERSION:
            raise DatasetError(
                f"{root} has schema version {summary.get('schema_version')}, this cavsync reads "
                f"{SCHEMA_VERSION}; prepare it again."
            )
        return cls(paths, summary)

    def split_names(self, role: str) -> list[str]:
        """The splits of a role: "train", "test", "all", or the name of one split."""
        splits: dict[str, str] = self.summary["splits"]  # name -> role
        names = [name for name in splits if role in (name, splits[name], "all")]
        if not names:
            known = ", ".join(f"{name} ({splits[name]})" for name in splits)
            raise DatasetError(f"{self.paths.root} has no split {role!r}; it has: {known}.")
        return names

    def shard_names(self, role: str) -> list[str]:
        names = self.split_names(role)
        return [shard for shard in sorted(self.summary["shards"]) if split_of(shard) in names]

    def outcomes(self, role: str) -> pd.DataFrame:
        """Columns key, state and reason ("" where ok), one row for the latest try of each clip of `role`.

        A key that is listed twice has one row; its state is duplicate only if another split has the clip.
        """
        columns = ["key", "state", "reason"]
        read = partial(read_index, self.paths, columns=columns)
        shards = sorted(self.shard_names(role), key=retry_round)
        tries = [table.to_pandas() for table in each(read, shards, self.paths.root)]
        rows = pd.concat(tries, ignore_index=True).fillna({"reason": ""})
        again = rows["state"] == ClipState.DUPLICATE
        ordered: pd.DataFrame = pd.concat([rows[again], rows[~again]])
        return ordered.drop_duplicates("key", keep="last", ignore_index=True)

    def index(self, role: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row for each clip in state ok of the splits of `role`, in shard order, with a column `shard`.

        A clip that succeeded in a retry is ok in the retry's shard only.
        """
        rows: pd.DataFrame = self.index_table(role, columns).to_pandas()
        return rows

    def index_table(self, role: str, columns: Sequence[str] | None = None) -> pa.Table:
        """`index` as an Arrow table, which takes a third of the time and of the memory."""
        wanted = None if columns is None else list({*columns, "state"})
        # Filtered in Arrow: in pandas a null in another row would turn integers into floats.
        read = partial(read_index, self.paths, columns=wanted, filters=[("state", "=", ClipState.OK)])
        shards = self.shard_names(role)
        tables: list[pa.Table] = [
            usable.append_column("shard", pa.repeat(shard, len(usable)))
            for shard, usable in zip(shards, each(read, shards, self.paths.root), strict=True)
        ]
        rows = with_moved_sources(pa.concat_tables(tables), self.paths)
        if not len(rows):
            raise self.no_usable_clip(role)
        return rows

    def clip(self, row: Mapping[str, Any] | pd.Series) -> "ClipContent":
        """The frames, the log-mel and the kept audio of a clip, from its row of `index`: `dataset.clip(rows.iloc[0])`.

        Raises DatasetError for a row without the columns that say where in its tar the clip is.
        """
        wanted = [field.name for field in fields(TarMembers)]
        if lacking := [name for name in (*wanted, "shard") if name not in row]:
            raise DatasetError(
                f"The row of the index lacks {', '.join(lacking)}, without which the clip cannot be found in its tar: take a "
                "row of `index(role)` with all columns."
            )
        # pandas has NaN where a clip has no audio file.
        places: dict[str, Any] = {
            name: None if np.isscalar(row[name]) and pd.isna(row[name]) else row[name] for name in wanted
        }
        return _read_members(self.paths, str(row["shard"]), TarMembers(**places))

    def no_usable_clip(self, role: str) -> DatasetError:
        """The error of a role of which no clip is in state ok."""
        return DatasetError(
            f"{self.paths.root} has no usable clip in split {role!r}; its clips ended as {self.summary['states']}."
        )


@dataclass(frozen=True)
class ClipContent:
    """The frames, the log-mel and the audio file of one clip, as its shard holds them."""

    frames: list[bytes]
    """JPEG files, in the order of time."""
    mel: np.ndarray
    """(rows, 128) float16, 100 rows a second, not normalised."""
    audio: bytes | None = None
    """A FLAC or Opus file, as `kept_codec` of the index says; None where no audio was kept."""


def read_clip(paths: DatasetPaths, row: IndexRow) -> ClipContent:
    """The content of a clip in state ok, read from the tar of its row's shard."""
    members = row.members
    if members is None:
        raise DatasetError(f"{row.key} ended as {row.state} in {paths.root}; no shard holds it.")
    return _read_members(paths, row.shard, members)


def stored_crc32(paths: DatasetPaths, row: IndexRow) -> int | None:
    """The checksum of a clip's members as its tar has them now; None of a clip that has none."""
    if row.members is None:
        return None
    tar = paths.tar(row.shard)
    return reduce(
        lambda crc, span: zlib.crc32(read_range(tar, span[0], sum(span)), crc), row.members.spans, 0
    )


def _read_members(paths: DatasetPaths, shard: str, members: TarMembers) -> ClipContent:
    spans = members.spans
    start, stop = min(offset for offset, _ in spans), max(offset + size for offset, size in spans)
    content = read_range(paths.tar(shard), start, stop)
    parts = [content[offset - start : offset - start + size] for offset, size in spans]
    num_frames = len(members.frame_offset)
    _, mel, *audio = parts[num_frames:]
    return ClipContent(parts[:num_frames], read_mel(mel), *audio)


def read_mel(content: bytes) -> np.ndarray:
    """The (rows, 128) float16 log-mel of a `.mel.npy` member."""
    mel: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return mel
