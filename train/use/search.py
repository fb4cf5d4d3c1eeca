"""The moments of embedded files that are most like a query: spans of time, best first."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cavsync.train.use.matrix import cosines, open_matrix
from cavsync.train.use.query import Query, QueryError
from cavsync.train.use.window_file import Side, WindowFile

Against = Literal["both", "audio", "image"]
# The best windows that are merged into spans, for every hit that is shown.
WINDOWS_PER_HIT = 10


@dataclass(frozen=True)
class Hit:
    """A stretch of a file whose windows are among the best; overlapping ones are one hit."""

    file: str
    start_s: float
    end_s: float
    score: float  # of its best window
    best_s: float  # the middle of its best window
    num_windows: int


@dataclass(frozen=True)
class Found:
    query: Query
    against: Against
    hits: list[Hit]
    num_windows: int  # that were compared
    seconds: float  # for comparing, ranking and merging


def search(
    file: WindowFile,
    query: Query,
    against: Against = "both",
    limit: int = 10,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """A window's score is the mean over its routes (query's sound or picture to window's sound or picture) of how many
    standard deviations its cosine lies above the mean of all windows: cosines of different routes have different scales.
    """
    sides: tuple[Side, ...] = ("audio", "image") if against == "both" else (against,)
    matrices = {side: open_matrix(file, side, on_row) for side in sides}
    began = time.perf_counter()
    routes = [
        scores
        for matrix in matrices.values()
        for vector in (query.audio, query.image)
        if vector is not None and (scores := _standardised(cosines(matrix, vector))) is not None
    ]
    if not routes:
        what = "embedding" if against == "both" else f"{against} embedding"
        raise QueryError(
            f"{file.path} holds no window with an {what} to compare with; see its files' states."
        )
    scores = _mean_of_known(routes)
    hits = _merged(file, scores, limit)
    compared = int((scores > -np.inf).sum())
    return Found(query, against, hits, compared, time.perf_counter() - began)


def _standardised(cosine: np.ndarray) -> np.ndarray | None:
    """NaN stays NaN; None where nothing is known."""
    known = np.isfinite(cosine)
    if not known.any():
        return None
    values = cosine[known]
    scaled: np.ndarray = (cosine - values.mean()) / max(float(values.std()), 1e-6)
    return scaled


def _mean_of_known(routes: list[np.ndarray]) -> np.ndarray:
    """The mean over the routes that a window has, -inf where it has none."""
    known = [np.isfinite(scores) for scores in routes]
    total = sum(np.where(there, scores, 0.0) for scores, there in zip(routes, known, strict=True))
    count = sum(there.astype(np.float32) for there in known)
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
    return mean


def _merged(file: WindowFile, scores: np.ndarray, limit: int) -> list[Hit]:
    """The best windows, those that overlap in one file taken together."""
    most = min(limit * WINDOWS_PER_HIT, int((scores > -np.inf).sum()))
    best = np.argpartition(-scores, most - 1)[:most]
    rows = _rows(file, np.sort(best))
    hits: list[Hit] = []
    for row, score in zip(rows, scores[np.sort(best)].tolist(), strict=True):  # by file, then by time
        hit = _hit(row, score)
        if hits and hits[-1].file == hit.file and hit.start_s < hits[-1].end_s:
            hits[-1] = _joined(hits[-1], hit)
        else:
            hits.append(hit)
    return sorted(hits, key=lambda hit: -hit.score)[:limit]


def _rows(file: WindowFile, numbers: np.ndarray) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = file.places().take(numbers).to_pylist()
    return rows


def _hit(row: dict[str, Any], score: float) -> Hit:
    middle_s = round((row["start_s"] + row["end_s"]) / 2, 3)
    return Hit(row["file"], row["start_s"], row["end_s"], score, middle_s, 1)


def _joined(one: Hit, other: Hit) -> Hit:
    better = one if one.score >= other.score else other
    return Hit(
        one.file,
        one.start_s,
        max(one.end_s, other.end_s),
        better.score,
        better.best_s,
        one.num_windows + other.num_windows,
    )
