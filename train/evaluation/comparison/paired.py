"""Two retrievals of the same clips, query by query: how sure is the difference of their recalls?"""

import hashlib
import json
from pathlib import Path

import numpy as np

from cavsync.train.evaluation.retrieval.protocol import NAME, read_ranks
from cavsync.train.evaluation.retrieval.recall import NUM_RESAMPLES, RECALLS_AT
from cavsync.train.evaluation.retrieval.tables import HEARD, SEEN

Interval = tuple[float, float]
# Columns of ranks.parquet, and the figures that are made from them.
FIGURES = {
    "own_clip audio_to_video": HEARD,
    "own_clip video_to_audio": SEEN,
    "same_class audio_to_video": f"{HEARD} same class",
    "same_class video_to_audio": f"{SEEN} same class",
}


def paired_differences(first: Path, other: Path, seed: int = 0) -> dict[str, Interval]:
    """Name of a figure -> 95 % interval of (other - first), in points; empty where queries were not the same or not
    kept. Both are paths of report.json."""
    one, two = _ranks(first), _ranks(other)
    if one is None or two is None or one[0] != two[0]:
        return {}
    return {
        f"{figure} R@{k}": paired_interval(one[1][column] <= k, two[1][column] <= k, seed)
        for column, figure in FIGURES.items()
        if column in one[1] and column in two[1]
        for k in RECALLS_AT
    }


def paired_interval(before: np.ndarray, after: np.ndarray, seed: int = 0) -> Interval:
    """95 % bootstrap interval, in points, of the difference of two shares of hits; (N,) bool each, same queries."""
    num_queries = len(before)
    gained, lost = (after & ~before).mean(), (before & ~after).mean()
    # In a resample of queries only those count that changed; how many of each kind it holds is multinomial.
    draws = np.random.default_rng(seed).multinomial(
        num_queries, [gained, lost, max(0.0, 1 - gained - lost)], NUM_RESAMPLES
    )
    low, high = np.percentile(100 * (draws[:, 0] - draws[:, 1]) / num_queries, [2.5, 97.5])
    return float(low), float(high)


def _ranks(report: Path) -> tuple[list[str], dict[str, np.ndarray]] | None:
    """None where the report keeps none, or the file beside it is of another evaluation."""
    record = json.loads(report.read_text())
    file = report.with_name(NAME)
    if record["evaluation"] != "retrieval" or not file.is_file():
        return None
    clips, ranks = read_ranks(file, record["config"]["aggregation"])
    same = hashlib.sha256("\n".join(clips).encode()).hexdigest() == record["items_sha256"]
    return (clips, ranks) if same else None
