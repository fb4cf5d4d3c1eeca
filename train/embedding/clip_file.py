"""Reads and writes a Parquet file of clip embeddings, which may come from any model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from cavsync.pipeline.storage.atomic import AtomicWriter
from cavsync.train.embedding.clip_file_schema import (
    COLUMNS,
    SIDES,
    EmbeddingFileError,
    RowIndices,
    require_columns,
)
from cavsync.train.embedding.clips import ClipEmbeddings

# Key of the file's metadata whose JSON object says what made the embeddings.
ABOUT = b"cavsync"
CLIPS_PER_GROUP = 64
BATCH_ROWS = 1024
# A unit vector of float16 is off by less.
ROUNDED = 1e-3
READ_BYTES = 2**20  # at a time; with `pre_buffer` a whole column would exist twice


@dataclass(frozen=True)
class EmbeddingFile:
    path: Path
    embeddings: ClipEmbeddings
    labels: list[list[str]] | None  # of each clip
    about: Mapping[str, Any]


def write_embeddings(
    path: Path, embeddings: ClipEmbeddings, labels: Sequence[Sequence[str]], about: Mapping[str, Any]
) -> None:
    width = embeddings.audio.shape[2]
    vectors = pa.list_(pa.float32(), width)
    types = [pa.string(), pa.int32(), vectors, vectors, pa.list_(pa.string())]
    schema = pa.schema(list(zip((*COLUMNS, "labels"), types, strict=True)))
    schema = schema.with_metadata({ABOUT: json.dumps(about).encode()})
    with AtomicWriter(path) as output:
        # Compression and dictionaries gain nothing on such numbers.
        with pq.ParquetWriter(output.file, schema, compression="none", use_dictionary=["clip"]) as writer:
            for first in range(0, len(embeddings.keys), CLIPS_PER_GROUP):
                chosen = slice(first, first + CLIPS_PER_GROUP)
                writer.write_table(_rows(embeddings, labels, chosen, schema))
        output.publish()


def read_embeddings(path: Path) -> EmbeddingFile:
    """Raises EmbeddingFileError where the file is not in the layout, or an embedding has no direction."""
    try:
        with pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
            require_columns(path, file.schema_arrow)
            indices = RowIndices.of(path, file)
            audio, image = (_matrix(path, file, indices, side) for side in SIDES)
            labels = _labels(file, indices) if "labels" in file.schema_arrow.names else None
            about = _about(path, file)
    except FileNotFoundError as error:
        raise EmbeddingFileError(f"{path} is not there; --embeddings names a Parquet file.") from error
    except (pa.ArrowException, OSError) as error:
        raise EmbeddingFileError(f"{path} is no Parquet file: {error}") from error
    if audio.shape != image.shape:
        raise EmbeddingFileError(
            f"{path}: audio embeddings are {audio.shape[2]} wide, image embeddings {image.shape[2]}; "
            "they are compared with each other, so give both the same width."
        )
    tensors = map(torch.from_numpy, (audio, image))
    return EmbeddingFile(path, ClipEmbeddings(indices.clips, *tensors), labels, about)


def read_about(path: Path) -> dict[str, Any] | None:
    """What made the embeddings of a file; None where it is no such file."""
    try:
        with pq.ParquetFile(path) as file:
            return _about(path, file)
    except (pa.ArrowException, OSError, EmbeddingFileError):
        return None


def _about(path: Path, file: pq.ParquetFile) -> dict[str, Any]:
    try:
        about = json.loads((file.schema_arrow.metadata or {}).get(ABOUT, b"{}"))
    except ValueError as error:
        raise EmbeddingFileError(f"{path}: its metadata {ABOUT.decode()!r} is no JSON: {error}") from error
    return about if isinstance(about, dict) else {"about": about}


def _rows(
    embeddings: ClipEmbeddings, labels: Sequence[Sequence[str]], chosen: slice, schema: pa.Schema
) -> pa.Table:
    keys = embeddings.keys[chosen]
    _, num_pairs, width = embeddings.audio.shape
    vectors = (
        pa.FixedSizeListArray.from_arrays(pa.array(part[chosen].float().reshape(-1).numpy()), width)
        for part in (embeddings.audio, embeddings.image)
    )
    columns = [
        pa.array(np.repeat(keys, num_pairs)),
        pa.array(np.tile(np.arange(num_pairs, dtype=np.int32), len(keys))),
        *vectors,
        pa.array([list(one) for one in labels[chosen] for _ in range(num_pairs)], pa.list_(pa.string())),
    ]
    return pa.table(columns, schema=schema)


def _matrix(path: Path, file: pq.ParquetFile, indices: RowIndices, side: str) -> np.ndarray:
    """(clips, pairs, width) float16 of one column, filled batch by batch, so that nothing exists twice."""
    matrix: np.ndarray | None = None
    first = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=[side]):
        vectors = _vectors(path, batch.column(0), indices, side, first)
        if matrix is None:
            matrix = np.empty((len(indices.clips), indices.num_pairs, vectors.shape[1]), np.float16)
        rows = slice(first, first + len(vectors))
        if vectors.shape[1] != matrix.shape[2]:
            raise _width_error(path, indices, side, first, vectors.shape[1], matrix.shape[2])
        matrix[indices.clip[rows], indices.pair[rows]] = vectors
        first += len(vectors)
    assert matrix is not None, "there is a row"
    return matrix


def _vectors(path: Path, column: Any, indices: RowIndices, side: str, first: int) -> np.ndarray:
    """(rows, width) unit vectors of a batch that begins at row `first` of the file."""
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise EmbeddingFileError(
            f"{path}, row {row}: pair {indices.pair[row]} of {indices.clips[indices.clip[row]]} has no {side} embedding. "
            "Every frame needs its audio segment and every segment its frame."
        )
    widths = pc.list_value_length(column).to_numpy()
    other = np.flatnonzero(widths != widths[0])
    if len(other):
        raise _width_error(path, indices, side, first + int(other[0]), widths[other[0]], widths[0])
    if not widths[0]:
        raise EmbeddingFileError(f"{path}, row {first}: the {side} embedding is an empty list.")
    vectors: np.ndarray = column.flatten().to_numpy(zero_copy_only=False).reshape(len(widths), -1)
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    broken = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(broken):
        raise _direction_error(path, indices, side, first + int(broken[0]), lengths[broken[0]])
    # Rounded unit vectors stay as they are, so that what we write is read back to the last bit.
    lengths[np.abs(lengths - 1) < ROUNDED] = 1
    unit_vectors: np.ndarray = vectors / lengths[:, None]
    return unit_vectors


def _direction_error(
    path: Path, indices: RowIndices, side: str, row: int, length: float
) -> EmbeddingFileError:
    what = "is all zeros" if length == 0 else "holds NaN or infinity"
    return EmbeddingFileError(
        f"{path}, row {row}: the {side} embedding of pair {indices.pair[row]} of {indices.clips[indices.clip[row]]} {what}, "
        "and ranks over it mean nothing. Look at the model and at this clip, or leave the clip out."
    )


def _width_error(
    path: Path, indices: RowIndices, side: str, row: int, width: int, expected: int
) -> EmbeddingFileError:
    return EmbeddingFileError(
        f"{path}, row {row}: the {side} embedding of pair {indices.pair[row]} of {indices.clips[indices.clip[row]]} "
        f"is {width} wide, those before it {expected}."
    )


def _labels(file: pq.ParquetFile, indices: RowIndices) -> list[list[str]]:
    """The labels of each clip, from its first row."""
    _, firsts = np.unique(indices.clip, return_index=True)
    column = file.read(columns=["labels"])["labels"].take(pa.array(firsts))
    return [list(labels or ()) for labels in column.to_pylist()]
