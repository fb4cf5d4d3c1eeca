"""Zero-shot retrieval: how often the right answer is among the first k, in both directions, with chance and intervals."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cavsync.train.evaluation.choices import Aggregation
from cavsync.train.evaluation.retrieval.ranking import CPU, OnTile, Ranking, Ranks, rank
from cavsync.train.evaluation.retrieval.similarity import CHUNK_CLIPS

RECALLS_AT = (1, 5, 10)
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Recall:
    """Share of queries, in %, whose right answer is among the first k, with a 95 % bootstrap interval."""

    k: int
    percent: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class MedianRank:
    """1 is best; with a 95 % bootstrap interval."""

    rank: float
    low: float
    high: float


@dataclass(frozen=True)
class Direction:
    recalls: tuple[Recall, ...]
    median: MedianRank


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
    seed: int = 0,
    classes: Tensor | None = None,
    device: torch.device = CPU,
    on_tile: OnTile = lambda: None,
) -> Retrieval:
    """Scores (N, F, D) embeddings, which need not be unit vectors; `seed` draws the bootstrap.

    `classes` is (N, C), 1 where a clip has the class; products are computed on `device`.
    """
    ranking = rank(audio, image, aggregation, classes, device, on_tile)
    own = score_ranks(ranking.own_clip, len(audio), seed=seed)
    same_class = None
    if ranking.same_class is not None and classes is not None:
        same_class = score_ranks(ranking.same_class, len(audio), num_right(classes), seed)
    return Retrieval(aggregation, len(audio), own.audio_to_video, own.video_to_audio, same_class, ranking)


def num_right(classes: Tensor) -> np.ndarray:
    """(N,) clips that share a class with each clip, itself among them, for (N, C) classes."""
    classes = classes.float()
    shared = [(chunk @ classes.T > 0).sum(1) for chunk in torch.split(classes, CHUNK_CLIPS)]
    return torch.cat(shared).clamp(min=1).cpu().numpy()


def score_ranks(
    ranks: Ranks, num_candidates: int, num_right: np.ndarray | int = 1, seed: int = 0
) -> Directions:
    """Queries of which each has `num_right` right answers, (Q,) or the same for all, among the candidates."""
    return Directions(
        *(
            Direction(
                tuple(_recall(one, k, chance(k, num_candidates, num_right), seed) for k in RECALLS_AT),
                _median(one, seed),
            )
            for one in (ranks.audio_to_video, ranks.video_to_audio)
        )
    )


def chance(k: int, num_candidates: int, num_right: np.ndarray | int) -> float:
    """How often, in %, k candidates drawn blindly hold one of the right ones: the mean over queries."""
    draws = np.arange(min(k, num_candidates))
    missed = (num_candidates - np.atleast_1d(num_right)[:, None] - draws) / (num_candidates - draws)
    return 100 * float((1 - np.clip(missed, 0, 1).prod(axis=1)).mean())


def _recall(ranks: np.ndarray, k: int, by_chance: float, seed: int) -> Recall:
    hits = ranks < k
    # The number of hits in a resample of N queries with replacement is binomial: no need to draw them.
    resampled = np.random.default_rng(seed).binomial(len(ranks), hits.mean(), NUM_RESAMPLES) / len(ranks)
    low, high = np.percentile(100 * resampled, [2.5, 97.5])
    return Recall(k, 100 * float(hits.mean()), float(low), float(high), by_chance)


def _median(ranks: np.ndarray, seed: int) -> MedianRank:
    # Where the middle of N draws with replacement falls among the N sorted ranks has a beta distribution.
    half = (len(ranks) + 1) / 2
    places = (np.random.default_rng(seed).beta(half, half, NUM_RESAMPLES) * len(ranks)).astype(int)
    low, high = np.percentile(np.sort(ranks)[places], [2.5, 97.5])
    return MedianRank(float(np.median(ranks)) + 1, float(low) + 1, float(high) + 1)
