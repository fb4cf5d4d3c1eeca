"""The embeddings of a window file as one float16 matrix, and its product with queries.

A large Parquet file takes seconds to read, so its columns are written once as plain matrices beside it, in
`<file>.matrix/`, and memory-mapped from then on. They belong to the file as it was (size and time); they may be deleted.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from cavsync.errors import OutputError, writing_output
from cavsync.pipeline.storage.atomic import publish, temporary_name
from cavsync.train.embedding.windows.window_file import Side, WindowFile

logger = logging.getLogger(__name__)

# Below it reading the file takes no second.
MIN_MAPPED_WINDOWS = 50_000
# Rows multiplied at a time: widened to float32 they stay in the cache.
CHUNK_ROWS = 512


def open_matrix(
    file: WindowFile, side: Side, on_row: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """(W, D) float16, NaN where a window has no such embedding."""
    if file.num_windows < MIN_MAPPED_WINDOWS:
        return _in_memory(file, side)
    facts = file.path.stat()
    path = file.path.with_name(f"{file.path.name}.matrix") / f"{side}-{facts.st_size}-{facts.st_mtime_ns}.npy"
    if not path.is_file():
        try:
            _write(file, side, path, on_row)
        except OutputError as error:
            logger.warning("%s Each search reads all of %s meanwhile.", error, file.path)
            return _in_memory(file, side)
    matrix: np.ndarray = np.load(path, mmap_mode="c")  # torch warns of arrays that are read-only
    return matrix


def _in_memory(file: WindowFile, side: Side) -> np.ndarray:
    return np.concatenate(
        [np.empty((0, file.width), np.float16), *file.vectors(side)], dtype=np.float16, casting="unsafe"
    )


def cosines(matrix: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(W,) float32 products of the (W, D) matrix with a (D,) unit vector, NaN where the matrix is."""
    wanted, rows = torch.from_numpy(query.astype(np.float32)), torch.from_numpy(matrix)
    products = torch.empty(len(matrix))
    parts = np.linspace(0, len(matrix), os.cpu_count() or 1, endpoint=False).astype(int).tolist()
    num_threads = torch.get_num_threads()
    # Products of this size gain nothing from torch's threads, and on a busy machine lose tenfold by waking them.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(len(parts), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            spans = [slice(*ends) for ends in zip(parts, [*parts[1:], len(matrix)], strict=True)]
            done = pool.map(lambda span: _multiply(rows[span], wanted, products[span]), spans)
            list(done)  # raises what a part raised
    finally:
        torch.set_num_threads(num_threads)
    found: np.ndarray = products.numpy()
    return found


def _multiply(rows: torch.Tensor, wanted: torch.Tensor, into: torch.Tensor) -> None:
    wide = torch.empty(CHUNK_ROWS, rows.shape[1])
    for first in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[first : first + CHUNK_ROWS]
        wide[: len(chunk)].copy_(chunk)
        torch.mv(wide[: len(chunk)], wanted, out=into[first : first + len(chunk)])


def _write(file: WindowFile, side: Side, path: Path, on_row: Callable[[int, int], None]) -> None:
    temporary = temporary_name(path)
    for stale in path.parent.glob(f"{side}-*.npy"):
        stale.unlink()
    try:
        with writing_output(path), temporary.open("wb") as out:
            header = {"descr": "<f2", "fortran_order": False, "shape": (file.num_windows, file.width)}
            np.lib.format.write_array_header_1_0(out, header)
            done = 0
            for batch in file.vectors(side):
                out.write(batch.astype("<f2").tobytes())
                done += len(batch)
                on_row(done, file.num_windows)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
