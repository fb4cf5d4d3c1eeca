"""Zero-shot retrieval: how often the right answer is among the first k, in both directions, with chance and intervals.

Axis words: N clips, Q queries, F (frame, audio segment) pairs a clip, D embedding width, C classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cavsync.train.choices import Aggregation
from cavsync.train.evaluation.retrieval.ranking import CPU, OnTile, Ranking, RetrievalRanks, rank
from cavsync.train.evaluation.retrieval.similarity import CHUNK_CLIPS
from cavsync.train.evaluation.statistics import median_rank, proportion
from cavsync.train.reporting.estimate import Estimate

RECALLS_AT = (1, 5, 10)


@dataclass(frozen=True)
class Direction:
    """The queries of one modality."""

    recalls: dict[int, Estimate]  # k -> fraction of queries whose right answer is among the first k
    median: Estimate  # rank of the right answer, 1 is best


@dataclass(frozen=True)
class Directions:
    audio_to_video: Direction
    video_to_audio: Direction


@dataclass(frozen=True)
class Retrieval:
    """One aggregation. Right is the query's own clip; for `same_class`, any clip that shares a label with it."""

    aggregation: Aggregation
    num_clips: int
    audio_to_video: Direction
    video_to_audio: Direction
    same_class: Directions | None
    ranking: Ranking

    @property
    def own_clip(self) -> Directions:
        return Directions(self.audio_to_video, self.video_to_audio)


def retrieve(
    audio: Tensor,
    image: Tensor,
    aggregation: Aggregation,
    classes: Tensor | None = None,
    device: torch.device = CPU,
    on_tile: OnTile = lambda: None,
) -> Retrieval:
    """Scores (N, F, D) embeddings, which need not be unit vectors.

    `classes` is (N, C), 1 where a clip has the class; products are computed on `device`.
    """
    ranking = rank(audio, image, aggregation, classes, device, on_tile)
    own = score_ranks(ranking.own_clip, len(audio))
    same_class = None
    if ranking.same_class is not None and classes is not None:
        same_class = score_ranks(ranking.same_class, len(audio), num_right(classes))
    return Retrieval(aggregation, len(audio), own.audio_to_video, own.video_to_audio, same_class, ranking)


def num_right(classes: Tensor) -> np.ndarray:
    """(N,) clips that share a class with each clip, itself among them, for (N, C) classes."""
    classes = classes.float()
    shared = [(chunk @ classes.T > 0).sum(1) for chunk in torch.split(classes, CHUNK_CLIPS)]
    return torch.cat(shared).clamp(min=1).cpu().numpy()


def score_ranks(ranks: RetrievalRanks, num_candidates: int, num_right: np.ndarray | int = 1) -> Directions:
    """Figures of (Q,) ranks a direction; each query has `num_right` right answers, (Q,) or one number for all."""
    chances = {k: chance(k, num_candidates, num_right) for k in RECALLS_AT}
    return Directions(
        *(
            Direction(
                {k: proportion(of_queries < k, by_chance) for k, by_chance in chances.items()},
                median_rank(of_queries),
            )
            for of_queries in (ranks.audio_to_video, ranks.video_to_audio)
        )
    )


def chance(k: int, num_candidates: int, num_right: np.ndarray | int) -> float:
    """How often, in %, k candidates drawn at random hold one of the right ones: the mean over queries.

    `num_right` is (Q,), or one number for all queries.
    """
    draws = np.arange(min(k, num_candidates))
    # (Q, k): the chance that each draw misses, if those before it did.
    missed = (num_candidates - np.atleast_1d(num_right)[:, None] - draws) / (num_candidates - draws)
    return 100 * float((1 - np.clip(missed, 0, 1).prod(axis=1)).mean())
