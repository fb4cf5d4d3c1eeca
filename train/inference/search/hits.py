"""The spans of embedded files that are most similar to a query, best first."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cavsync.train.embedding.windows.matrix import cosines, open_matrix
from cavsync.train.embedding.windows.window_file import Side, WindowFile
from cavsync.train.inference.search.query import QueryError, SearchQuery

Against = Literal["both", "audio", "image"]
# A hit reaches as far as the score stays above this fraction of its best window's.
FRACTION_OF_BEST = 0.5


@dataclass(frozen=True)
class Hit:
    """A span of a file around a window that is better than those near it."""

    file: str
    start_s: float
    end_s: float
    score: float  # of its best window
    best_s: float  # the middle of its best window
    num_windows: int


@dataclass(frozen=True)
class SearchResults:
    """The hits of a query."""

    query: SearchQuery
    against: Against
    hits: list[Hit]
    num_windows: int  # that were compared
    seconds: float  # for comparing, ranking and merging


def search(
    file: WindowFile,
    query: SearchQuery,
    against: Against = "both",
    limit: int = 10,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> SearchResults:
    """The best spans of the embedded files.

    A window's score is a mean over pairs of modalities (audio or image of the query, audio or image of the window) of how
    many standard deviations its cosine lies above the mean of all windows: cosines of different pairs have different scales.
    """
    sides: tuple[Side, ...] = ("audio", "image") if against == "both" else (against,)
    matrices = {side: open_matrix(file, side, on_row) for side in sides}
    began = time.perf_counter()
    by_pair = [
        scores
        for matrix in matrices.values()
        for vector in (query.audio, query.image)
        if vector is not None and (scores := _standardised(cosines(matrix, vector))) is not None
    ]
    if not by_pair:
        what = "embedding" if against == "both" else f"{against} embedding"
        raise QueryError(
            f"{file.path} holds no window with an {what} to compare with; see its files' states."
        )
    scores = _mean_of_known(by_pair)
    hits = _peaks(_Rows.of(file), scores, limit)
    compared = int((scores > -np.inf).sum())
    return SearchResults(query, against, hits, compared, time.perf_counter() - began)


def _standardised(cosine: np.ndarray) -> np.ndarray | None:
    """(W,) cosines in standard deviations above their mean. NaN stays NaN; None where all are NaN."""
    known = np.isfinite(cosine)
    if not known.any():
        return None
    values = cosine[known]
    scaled: np.ndarray = (cosine - values.mean()) / max(float(values.std()), 1e-6)
    return scaled


def _mean_of_known(by_pair: list[np.ndarray]) -> np.ndarray:
    """(W,) mean over the pairs of modalities that a window has, -inf where it has none."""
    known = [np.isfinite(scores) for scores in by_pair]
    total = sum(np.where(there, scores, 0.0) for scores, there in zip(by_pair, known, strict=True))
    count = sum(there.astype(np.float32) for there in known)
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
    return mean


@dataclass(frozen=True)
class _Rows:
    """Where each window lies, in the order of the file of embeddings."""

    names: list[str]
    files: np.ndarray  # (W,) indices into `names`
    start_s: np.ndarray  # (W,)
    end_s: np.ndarray  # (W,)

    @classmethod
    def of(cls, file: WindowFile) -> "_Rows":
        table = file.places().unify_dictionaries().combine_chunks()
        column = table.column("file").chunk(0)
        numbers = (table.column(name).to_numpy() for name in ("start_s", "end_s"))
        return cls(column.dictionary.to_pylist(), column.indices.to_numpy(), *numbers)

    def gap_s(self, row: int, later: int) -> float:
        """From the end of one to the start of the other, negative where they overlap; infinite between files."""
        inside = row >= 0 and later < len(self.files) and self.files[row] == self.files[later]
        return float(self.start_s[later] - self.end_s[row]) if inside else np.inf


def _peaks(rows: _Rows, scores: np.ndarray, limit: int) -> list[Hit]:
    """The windows of the best (W,) scores, each with those beside it that are nearly as good; no two hits overlap."""
    left = scores.copy()
    hits: list[Hit] = []
    while len(hits) < limit and left[best := int(left.argmax())] > -np.inf:
        score = float(scores[best])
        least = FRACTION_OF_BEST * score if score > 0 else score
        first = last = best
        while rows.gap_s(first - 1, first) <= 0 and left[first - 1] >= least:
            first -= 1
        while rows.gap_s(last, last + 1) <= 0 and left[last + 1] >= least:
            last += 1
        start_s, end_s = float(rows.start_s[first]), float(rows.end_s[last])
        middle_s = round(float(rows.start_s[best] + rows.end_s[best]) / 2, 3)
        hits.append(Hit(rows.names[rows.files[best]], start_s, end_s, score, middle_s, last - first + 1))
        begin, stop = first, last
        while rows.gap_s(begin - 1, first) < 0:
            begin -= 1
        while rows.gap_s(last, stop + 1) < 0:
            stop += 1
        left[begin : stop + 1] = -np.inf
    return hits
