"""The layout of a file of embeddings: which columns it has, and to which clip and pair each row belongs.

One row a (clip, pair), in any order:

    clip    string   id of the clip
    pair    int      number of the (frame, window) pair in its clip, from 0; every clip has equally many
    audio   list of D floats    embedding of the audio segment, of any length but 0
    image   list of D floats    embedding of the frame
    labels  list of strings     optional; of the clip, so the same in all its rows
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cavsync.train.errors import EvaluationError

COLUMNS = ("clip", "pair", "audio", "image")
SIDES = ("audio", "image")


class EmbeddingFileError(EvaluationError):
    """A file that is not in the layout; the message names the row or the clip."""


def require_columns(path: Path, schema: pa.Schema) -> None:
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        raise EmbeddingFileError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(schema.names)}. One row is one "
            f"(frame, window) pair of a clip, with the columns {', '.join(COLUMNS)} and perhaps labels."
        )
    numbers = {side: ("lists of floating-point numbers", _is_list_of(pa.types.is_floating)) for side in SIDES}
    expected = numbers | {
        "pair": ("whole numbers", pa.types.is_integer),
        "labels": ("lists of strings", _is_list_of(_is_string)),
    }
    for name, (what, holds) in expected.items():
        if name in schema.names and not holds(schema.field(name).type):
            raise EmbeddingFileError(f"{path}: column {name} holds {schema.field(name).type}, not {what}.")


def _is_list_of(holds: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    def is_list(type_: Any) -> bool:
        lists = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
        return bool(lists and holds(type_.value_type))

    return is_list


def _is_string(type_: pa.DataType) -> bool:
    """Or null, the type of the items of lists that are empty in every row."""
    return any(is_one(type_) for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null))


@dataclass(frozen=True)
class RowIndices:
    """Where each row of a file belongs."""

    clips: list[str]  # in order of appearance
    clip: np.ndarray  # (rows,) number of the clip
    pair: np.ndarray  # (rows,)
    num_pairs: int

    @classmethod
    def of(cls, path: Path, file: pq.ParquetFile) -> "RowIndices":
        table = file.read(columns=["clip", "pair"])
        for name in ("clip", "pair"):
            _require_values(path, table[name], name)
        if not len(table):
            raise EmbeddingFileError(f"{path} has no row.")
        coded: Any = pc.dictionary_encode(table["clip"].cast(pa.string()).combine_chunks())
        clips, clip = coded.dictionary.to_pylist(), coded.indices.to_numpy()
        pair = table["pair"].to_numpy()
        counts = np.bincount(clip, minlength=len(clips))
        num_pairs = int(np.bincount(counts).argmax())  # what most clips have
        _require_equal(path, clips, counts, num_pairs)
        _require_numbered(path, clips, clip, pair, num_pairs)
        return cls(clips, clip, pair, num_pairs)


def _require_values(path: Path, column: Any, name: str) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise EmbeddingFileError(f"{path}, row {row}: {name} is empty.")


def _require_equal(path: Path, clips: list[str], counts: np.ndarray, num_pairs: int) -> None:
    others = np.flatnonzero(counts != num_pairs)
    if len(others):
        raise EmbeddingFileError(
            f"{path}: {len(others)} of {len(clips)} clips have another number of pairs than the {num_pairs} of the others, "
            f"such as {clips[others[0]]} with {counts[others[0]]}. Give every clip the same number."
        )


def _require_numbered(
    path: Path, clips: list[str], clip: np.ndarray, pair: np.ndarray, num_pairs: int
) -> None:
    order = np.lexsort((pair, clip))
    wrong = np.flatnonzero(pair[order] != np.tile(np.arange(num_pairs), len(clips)))
    if len(wrong):
        number = clip[order[wrong[0]]]
        found = sorted(pair[clip == number].tolist())
        raise EmbeddingFileError(
            f"{path}: the pairs of {clips[number]} are numbered {found}; they should be 0 to {num_pairs - 1}, each once."
        )
