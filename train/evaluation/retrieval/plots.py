"""Charts of the ranks that right answers have."""

from itertools import pairwise

import numpy as np

from cavsync.train.evaluation.retrieval.metrics import Retrieval
from cavsync.train.evaluation.retrieval.tables import AUDIO_TO_VIDEO, VIDEO_TO_AUDIO
from cavsync.train.reporting.charts import bar_chart, recall_chart

RANK_BINS = (1, 5, 10, 50, 100, 1000)
MAX_POINTS = 60  # of a curve


def recall_curves(result: Retrieval) -> str:
    """R@k over k in both directions, and the chance level, as SVG."""
    at = np.unique(np.geomspace(1, result.num_clips, MAX_POINTS).round().astype(int))
    curves = {
        name: (at, 100 * (ranks[:, None] < at).mean(axis=0)) for name, ranks in _named_ranks(result).items()
    }
    return recall_chart(curves | {"chance": (at, 100 * at / result.num_clips)}, "k", "R@k, %")


def rank_bars(result: Retrieval) -> str:
    """How many right answers have which ranks, in both directions, as SVG."""
    edges = [0, *(edge for edge in RANK_BINS if edge < result.num_clips), result.num_clips]
    labels = [
        f"{low + 1:,}" if low + 1 == high else f"{low + 1:,} to {high:,}" for low, high in pairwise(edges)
    ]
    counts = {name: np.histogram(ranks, edges)[0].tolist() for name, ranks in _named_ranks(result).items()}
    return bar_chart(labels, counts, "rank of the right answer", "queries")


def _named_ranks(result: Retrieval) -> dict[str, np.ndarray]:
    ranks = result.ranking.own_clip
    return {AUDIO_TO_VIDEO: ranks.audio_to_video, VIDEO_TO_AUDIO: ranks.video_to_audio}
