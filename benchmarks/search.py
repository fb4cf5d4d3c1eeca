"""How long a search takes among a million windows of the paper's width.

    python -m benchmarks.search [--windows N] [--rounds N]

The windows are random unit vectors, 1000 to a file, each with an audio and an image embedding; the query has both. They need 9 GB of
disk. The first search, which also writes the matrices beside the file, is not timed.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import typer

from benchmarks.support import results, timing
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.train.embedding.embedder import FileEmbeddings
from cavsync.train.embedding.windows.window_file import WindowFile
from cavsync.train.embedding.windows.writing import as_table, write_window_file
from cavsync.train.inference.search.hits import search
from cavsync.train.inference.search.query import SearchQuery

WIDTH = 768
WINDOWS_PER_FILE = 1000
STEP_S = 2.0
SEARCH = "audio and image against both"


def main(windows: int = 1_000_000, rounds: int = 7) -> None:
    with TemporaryDirectory(dir=".") as folder:
        file = _written(Path(folder) / "windows.parquet", windows // WINDOWS_PER_FILE)
        audio, image = _unit(2, seed=-1)
        query = SearchQuery(Path("query.mp4"), "video", audio, image)
        costs = timing.in_turns({SEARCH: partial(search, file, query)}, rounds)[SEARCH]
    rows = [
        results.Row(what=f"{SEARCH}: time", values=costs.wall_s, unit="s", aim="< 1 s"),
        results.Row(what=f"{SEARCH}: CPU time", values=costs.cpu_s, unit="s"),
    ]
    results.publish("search", f"A search among {windows:,} windows of width {WIDTH}", rows)


def _written(path: Path, num_files: int) -> WindowFile:
    write_window_file(path, _tables(num_files), WIDTH, {}, [])
    return WindowFile.open(path)


def _tables(num_files: int) -> Iterator[pa.Table]:
    for number in range(num_files):
        yield as_table(f"{number:05d}.mp4", _windows(number))


def _windows(seed: int) -> FileEmbeddings:
    start_s = STEP_S * np.arange(WINDOWS_PER_FILE)
    vectors = _unit(2 * WINDOWS_PER_FILE, seed)
    return FileEmbeddings(
        start_s=start_s,
        end_s=start_s + 2 * STEP_S,
        frame_s=start_s + STEP_S,
        audio=vectors[:WINDOWS_PER_FILE],
        image=vectors[WINDOWS_PER_FILE:],
        duration_s=float(start_s[-1]) + 2 * STEP_S,
        state=ClipState.OK,
        reason=None,
    )


def _unit(number: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed + 1).standard_normal((number, WIDTH), np.float32)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


if __name__ == "__main__":
    typer.run(main)
