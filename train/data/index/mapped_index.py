"""The index of a role's clips as a mapped file: a clip's row is read where it lies, and nothing is loaded at the start."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from cavsync.train.data.index.mapped_file import read_facts

# Columns of numbers, and those that have one number for each frame.
NUMBERS = (
    *("shard", "num_mel_rows", "mel_offset", "mel_size", "json_offset", "json_size"),
    *("audio_offset", "audio_size", "crc32"),
)
OF_FRAMES = ("frame_pts_s", "frame_offset", "frame_size")


class MappedIndex:
    """The clips of a file that `index_file` made, numbered in shard order; with `chosen` those of them alone.

    Processes share the memory that the file is mapped to, and it may be pickled into others.
    """

    def __init__(self, file: Path, chosen: np.ndarray | None = None) -> None:
        """`chosen` is int (clips,), ascending: which of the file's clips there are."""
        self._file, self._chosen = file, chosen
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        facts = read_facts(reader.schema)
        self.shards: list[str] = [part[0] for part in facts["parts"]]
        self.tar_bytes: list[int] = facts["tar_bytes"]
        self._blocks = [_Block(reader.get_batch(number)) for number in range(reader.num_record_batches)]
        self._bounds: list[int] = np.cumsum([0, *(block.num_rows for block in self._blocks)]).tolist()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._file, self._chosen)

    def __len__(self) -> int:
        return self._bounds[-1] if self._chosen is None else len(self._chosen)

    def __getitem__(self, clip: int) -> "IndexedClip":
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        row = clip if self._chosen is None else int(self._chosen[clip])
        block = bisect_right(self._bounds, row) - 1
        return IndexedClip(self._blocks[block], row - self._bounds[block])

    def only(self, is_kept: np.ndarray) -> "MappedIndex":
        """The clips for which bool (clips,) `is_kept` holds."""
        rows = np.flatnonzero(is_kept)
        return MappedIndex(self._file, rows if self._chosen is None else self._chosen[rows])

    def frame_counts(self) -> list[int]:
        """The numbers of stored frames that clips have, ascending."""
        counts = [np.unique(np.diff(block.first_frame)[rows]) for block, rows in self._rows()]
        found: list[int] = np.unique(np.concatenate(counts)).tolist()
        return found

    def key_array(self) -> pa.ChunkedArray:
        """The keys, in order, as they lie in the file."""
        chunks = [
            block.keys if isinstance(rows, slice) else block.keys.take(pa.array(rows))
            for block, rows in self._rows()
        ]
        return pa.chunked_array(chunks, pa.string())

    def texts(self, column: str) -> Iterator[Any]:
        """The values of `key`, or of `labels`, a list each, in order."""
        for block, rows in self._rows():
            values = block.batch.column(column)
            yield from (values if isinstance(rows, slice) else values.take(pa.array(rows))).to_pylist()

    def _rows(self) -> "Iterator[tuple[_Block, slice | np.ndarray]]":
        """Each block with the numbers of its rows that there are."""
        for block, (first, stop) in zip(self._blocks, pairwise(self._bounds), strict=True):
            if self._chosen is None:
                yield block, slice(None)
            else:
                low, high = np.searchsorted(self._chosen, [first, stop])
                yield block, self._chosen[low:high] - first


class ClipKeys(Sequence[str]):
    """The keys of an index's clips with `prefix` before each, decoded when they are needed."""

    def __init__(self, index: MappedIndex, prefix: str = "") -> None:
        self._index, self._prefix = index, prefix

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, number: int) -> str: ...

    @overload
    def __getitem__(self, number: slice) -> list[str]: ...

    def __getitem__(self, number: int | slice) -> str | list[str]:
        numbers = range(len(self))[number]
        if isinstance(numbers, range):
            return [self._prefix + self._index[each].key for each in numbers]
        return self._prefix + self._index[numbers].key

    def __iter__(self) -> Iterator[str]:
        return (self._prefix + key for key in self._index.texts("key"))


@dataclass(frozen=True, slots=True)
class IndexedClip:
    """The row of one clip."""

    block: "_Block"
    row: int

    @property
    def key(self) -> str:
        return str(self.block.keys[self.row])

    @property
    def num_stored_frames(self) -> int:
        return int(self.block.first_frame[self.row + 1] - self.block.first_frame[self.row])

    def number(self, column: str) -> int:
        """One of NUMBERS."""
        return int(self.block.column(column)[self.row])

    def of_frames(self, column: str) -> np.ndarray:
        """One of OF_FRAMES, (stored frames,): presentation times in seconds, or offsets and sizes in bytes in the tar."""
        first, stop = self.block.first_frame[self.row : self.row + 2]
        values: np.ndarray = self.block.column(column)[first:stop]
        return values


class _Block:
    """A record batch of the file, its columns as arrays that copy nothing."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch, self.num_rows = batch, batch.num_rows
        self.keys = batch.column("key")
        self._columns: dict[str, np.ndarray] = {}

    @cached_property
    def first_frame(self) -> np.ndarray:
        """int32 (rows + 1,): where the frames of each row begin in the columns OF_FRAMES."""
        offsets: np.ndarray = self.batch.column("frame_size").offsets.to_numpy()
        return offsets

    def column(self, name: str) -> np.ndarray:
        """(rows,) of NUMBERS, (frames of all rows,) of OF_FRAMES."""
        if name not in self._columns:
            column = self.batch.column(name)
            values = column.values if name in OF_FRAMES else column
            self._columns[name] = values.to_numpy()
        return self._columns[name]
