"""Writes files of `cavsync embed`, whole or not at all, and the parts of which they are made."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cavsync.errors import writing_output
from cavsync.pipeline.storage.atomic import publish, temporary_name
from cavsync.train.embedding.embedder import FileEmbeddings
from cavsync.train.embedding.windows.window_file import ABOUT, FILES, FileRecord, WindowFile, WindowFileError


def require_own_file(path: Path, about: Mapping[str, Any], files: Sequence[str]) -> None:
    """Raises WindowFileError where `path` holds something that would be lost.

    A file of `cavsync embed` may be replaced where its embeddings were made as `about` says, from the same source or
    from files that are all among `files`.
    """
    if not path.exists():
        return
    try:
        found = WindowFile.open(path)
    except WindowFileError as error:
        raise WindowFileError(
            f"{path} is there and would be lost: it is no file of `cavsync embed`. Name another one."
        ) from error
    if differences := list(_differences(found, about, files)):
        raise WindowFileError(
            f"{path} holds other embeddings, which would be lost: {'; '.join(differences)}. Name another file with "
            "--out, or remove it."
        )


def _differences(found: WindowFile, about: Mapping[str, Any], files: Sequence[str]) -> Iterator[str]:
    """How the embeddings that are there differ from those that are to be made."""
    if found.about.get("checkpoint_sha256") != about["checkpoint_sha256"]:
        yield f"their checkpoint is {found.about.get('checkpoint')}, now it is {about['checkpoint']}"
    for name in ("precision", "model", "mel", "window_s", "step_s"):
        if found.about.get(name) != about[name]:
            yield f"their {name} is {found.about.get(name)}, now it is {about[name]}"
    lost = [record.file for record in found.files if record.file not in set(files)]
    if lost and found.about.get("source") != about["source"]:
        others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield f"they are of {lost[0]}{others}, which {about['source'] or 'the list of files'} does not have"


def as_table(file: str, windows: FileEmbeddings) -> pa.Table:
    """One row for each window of a file."""
    columns = [
        pa.array([file] * len(windows.start_s)).dictionary_encode().cast(pa.string()),
        pa.array(windows.start_s),
        pa.array(windows.end_s),
        pa.array(windows.frame_s, from_pandas=True),
        _vectors(windows.audio, windows.has_audio),
        _vectors(windows.image, windows.has_image),
    ]
    return pa.table(columns, schema=_schema(windows.audio.shape[1]))


def write_window_file(
    path: Path, tables: Iterable[pa.Table], width: int, about: dict[str, Any], files: Sequence[FileRecord]
) -> None:
    """Atomically: the file is there whole, or not at all."""
    listed = [asdict(record) for record in files]
    metadata = {ABOUT: json.dumps(about).encode(), FILES: json.dumps(listed).encode()}
    schema = _schema(width).with_metadata(metadata)
    temporary = temporary_name(path)
    try:
        # Compression and dictionaries gain nothing on embeddings.
        with (
            writing_output(path),
            pq.ParquetWriter(temporary, schema, compression="none", use_dictionary=["file"]) as writer,
        ):
            for table in tables:
                writer.write_table(table.cast(schema))
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_part(path: Path, record: FileRecord, table: pa.Table | None) -> None:
    """Stores the outcome of one file until all are done."""
    table = _schema(0).empty_table() if table is None else table
    temporary = temporary_name(path)
    metadata = {FILES: json.dumps(asdict(record)).encode()}
    try:
        with writing_output(path):
            pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="none")
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_part(path: Path) -> tuple[FileRecord, pa.Table] | None:
    """None where it is missing or damaged."""
    try:
        table = pq.read_table(path)
        return FileRecord.of_json(json.loads(table.schema.metadata[FILES])), table
    except (FileNotFoundError, pa.ArrowException, KeyError, ValueError):
        return None


def _schema(width: int) -> Any:
    vectors = pa.list_(pa.float32(), width)
    fields: list[Any] = [
        pa.field("file", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("frame_s", pa.float64()),
        pa.field("audio", vectors),
        pa.field("image", vectors),
    ]
    return pa.schema(fields)


def _vectors(vectors: np.ndarray, there: np.ndarray) -> Any:
    # Nulls of fixed-size lists take their room in memory; zeros there are never seen.
    flat = pa.array(np.where(there[:, None], vectors, 0).reshape(-1).astype(np.float32))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=pa.array(~there))
