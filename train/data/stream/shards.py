"""The shards of a dataset that is streamed, and which of their clips are read.

How many clips a shard holds its done-record says; which of them the configuration leaves out, its index.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.schema import SCHEMA_VERSION, ClipState
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath, each, readable
from cavsync.train.data.config import DataConfig
from cavsync.train.data.index.choice import ClipChoice
from cavsync.train.data.store import trained_clips


@dataclass(frozen=True)
class Shard:
    """A tar somewhere; the clips that are read of it have the numbers [first, first + count), as in a ClipStore."""

    url: str
    first: int
    positions: Sequence[int]  # in the tar, ascending, of the clips that are read
    num_stored: int
    prefix: str = ""
    """Shown before the clips' keys."""

    @property
    def count(self) -> int:
        return len(self.positions)


def open_summary(root: AnyPath) -> Dataset:
    """The dataset at a path or URL; only its summary is at hand."""
    paths = DatasetPaths(root)
    try:
        summary = json.loads(paths.summary.read_bytes())
    except Exception as error:  # each protocol raises errors of its own library
        raise DatasetError(
            f"{refused(paths.summary, error)} Are data.path and your credentials right?"
        ) from error
    if summary.get("schema_version") != SCHEMA_VERSION:
        raise DatasetError(
            f"{paths.summary} has schema version {summary.get('schema_version')}, not {SCHEMA_VERSION}."
        )
    return Dataset(paths, summary)


def list_shards(dataset: Dataset, data: DataConfig, number: int = 0, prefix: str = "") -> list[Shard]:
    """The shards of a dataset, which is that of this number in `data`, each with as many clips as its done-record counts,
    less those that `data` leaves out. The clips are numbered from 0."""
    paths, names = dataset.paths, dataset.shard_names(data.split)
    counts = list(each(lambda name: _num_usable(paths.done(name)), names, paths.root))
    kept: list[Sequence[int]] = [range(count) for count in counts]
    choice = trained_clips(data, number)
    if not choice.is_all and any(counts):
        where = f"{paths.root}, split {data.split!r}"
        kept = _kept_positions([paths.index(name) for name in names], counts, choice, where)
    firsts = np.cumsum([0, *map(len, kept[:-1])])
    return [
        Shard(str(paths.tar(name)), int(first), positions, count, prefix)
        for name, first, positions, count in zip(names, firsts, kept, counts, strict=True)
    ]


def refused(where: AnyPath | str, error: Exception) -> str:
    """A sentence on `where`, which could not be read because of `error`."""
    if isinstance(error, StoreError):
        return str(error)
    first_line = f"{type(error).__name__} {error}".partition("\n")[0]
    return f"{where} cannot be read: {first_line}."


def _kept_positions(
    indexes: Sequence[AnyPath], counts: Sequence[int], choice: ClipChoice, where: str
) -> list[Sequence[int]]:
    """For each shard the positions in its tar of the clips that are chosen."""
    clips = list(each(partial(_clips, choice.columns), indexes, indexes[0].parent))
    for index, count, prepared in zip(indexes, counts, clips, strict=True):
        if len(prepared) != count:
            raise DatasetError(
                f"{index} lists {len(prepared)} prepared clips, its record in done/ {count}: copy the folders index/ and "
                "done/ there again."
            )
    is_kept = choice.kept(pa.concat_tables(clips), where)
    of_shards = np.split(is_kept, np.cumsum(counts)[:-1])
    return [np.flatnonzero(one).tolist() for one in of_shards]


def _clips(columns: Sequence[str], index: AnyPath) -> pa.Table:
    """Columns of the prepared clips of a shard, in order of its tar."""
    try:
        is_usable = [("state", "=", ClipState.OK)]
        return pq.read_table(readable(index), columns=[*columns], filters=is_usable)
    except Exception as error:  # each protocol raises errors of its own library
        raise DatasetError(
            f"{refused(index, error)} data.max_gap_s and data.keep need the index: copy the folder index/ there too."
        ) from error


def _num_usable(record: AnyPath) -> int:
    try:
        return DoneRecord.from_json(record.read_bytes()).states.get(ClipState.OK, 0)
    except Exception as error:  # each protocol raises errors of its own library
        raise DatasetError(f"{refused(record, error)} Copy the folder done/ there too.") from error
