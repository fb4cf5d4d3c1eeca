"""Two retrievals of the same clips, query by query: the intervals of the differences of their recalls."""

import hashlib
import json
from pathlib import Path

import numpy as np

from cavsync.train.evaluation.retrieval.metrics import RECALLS_AT
from cavsync.train.evaluation.retrieval.protocol import RANKS_NAME, read_ranks
from cavsync.train.evaluation.retrieval.tables import AUDIO_TO_VIDEO, VIDEO_TO_AUDIO
from cavsync.train.evaluation.statistics import paired_difference
from cavsync.train.reporting.estimate import Estimate

# Columns of ranks.parquet, and the figures that are made from them.
FIGURES = {
    "own_clip audio_to_video": AUDIO_TO_VIDEO,
    "own_clip video_to_audio": VIDEO_TO_AUDIO,
    "same_class audio_to_video": f"{AUDIO_TO_VIDEO} same class",
    "same_class video_to_audio": f"{VIDEO_TO_AUDIO} same class",
}


def paired_differences(first: Path, other: Path) -> dict[str, Estimate]:
    """Name of a figure -> (other - first), in points; empty where the queries are not the same or were not kept.

    Both are paths of report.json.
    """
    one, two = _ranks(first), _ranks(other)
    if one is None or two is None or one[0] != two[0]:
        return {}
    return {
        f"{figure} R@{k}": paired_difference(one[1][column] <= k, two[1][column] <= k)
        for column, figure in FIGURES.items()
        if column in one[1] and column in two[1]
        for k in RECALLS_AT
    }


def _ranks(report: Path) -> tuple[list[str], dict[str, np.ndarray]] | None:
    """None where the report keeps none, or the file beside it is of another evaluation."""
    record = json.loads(report.read_text())
    file = report.with_name(RANKS_NAME)
    if record["evaluation"] != "retrieval" or not file.is_file():
        return None
    clips, ranks = read_ranks(file, record["config"]["aggregation"])
    same = hashlib.sha256("\n".join(clips).encode()).hexdigest() == record["items_sha256"]
    return (clips, ranks) if same else None
