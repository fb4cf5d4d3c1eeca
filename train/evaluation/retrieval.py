"""Zero-shot retrieval between the sound and the picture of clips, by matrix products.

Axis words: N clips, F (frame, window) pairs a clip, D embedding width. Row i of a score matrix is query i,
column j is candidate j, and the right answer of query i is candidate i.
"""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from cavsync.pipeline.errors import CavsyncError

Aggregation = Literal["diagonal-mean", "diagonal-max", "mean", "max"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
RECALLS_AT = (1, 5, 10)
# Two equal embeddings may differ by a rounding of the product; a score this near the right one is a tie.
TIE_TOLERANCE = 1e-6
# Scores of one block of queries against all candidates: 64 million float32 are 256 MB.
MAX_BLOCK_SCORES = 2**26


class EvaluationError(CavsyncError):
    """An evaluation that cannot be computed as asked."""


@dataclass(frozen=True)
class Recall:
    """Share of queries, in %, whose right answer is among the first k, with a 95 % bootstrap interval."""

    k: int
    percent: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Direction:
    recalls: tuple[Recall, ...]
    median_rank: float  # 1 is best


@dataclass(frozen=True)
class Retrieval:
    """Both directions under one aggregation."""

    aggregation: Aggregation
    num_clips: int
    audio_to_video: Direction
    video_to_audio: Direction

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def retrieve(audio: Tensor, image: Tensor, aggregation: Aggregation, seed: int = 0) -> Retrieval:
    """Scores (N, F, D) embeddings, which need not be unit vectors; `seed` draws the bootstrap."""
    scores = similarity(audio, image, aggregation)
    return Retrieval(
        aggregation=aggregation,
        num_clips=len(scores),
        audio_to_video=score_direction(scores, seed),
        video_to_audio=score_direction(scores.T, seed),
    )


def similarity(audio: Tensor, image: Tensor, aggregation: Aggregation) -> Tensor:
    """The (N, N) scores of every clip's audio (rows) with every clip's video (columns), float32."""
    audio, image = unit_vectors(audio, "audio"), unit_vectors(image, "image")
    if audio.shape != image.shape:
        raise EvaluationError(
            f"audio embeddings {tuple(audio.shape)} and image embeddings {tuple(image.shape)} differ in shape; "
            "both must be (clips, pairs, width)."
        )
    num_pairs = audio.shape[1]
    match aggregation:
        case "diagonal-mean":  # the mean of F products is one product of the concatenated vectors
            return audio.flatten(1) @ image.flatten(1).T / num_pairs
        case "mean":
            return audio.mean(1) @ image.mean(1).T
        case "diagonal-max":
            per_pair = (audio[:, k] @ image[:, k].T for k in range(num_pairs))
            best = next(per_pair)
            for scores in per_pair:
                torch.maximum(best, scores, out=best)
            return best
        case "max":
            return _max_over_pairs(audio, image)
    raise EvaluationError(f"unknown aggregation {aggregation!r}; one of {', '.join(AGGREGATIONS)}.")


def _max_over_pairs(audio: Tensor, image: Tensor) -> Tensor:
    num_clips, num_pairs, width = image.shape
    candidates = image.reshape(-1, width).T
    queries_per_block = max(1, MAX_BLOCK_SCORES // (num_clips * num_pairs**2))
    blocks: list[Tensor] = [
        (block.reshape(-1, width) @ candidates)
        .reshape(len(block), num_pairs, num_clips, num_pairs)
        .amax(dim=(1, 3))
        for block in torch.split(audio, queries_per_block)
    ]
    return torch.cat(blocks)


def unit_vectors(embeddings: Tensor, name: str) -> Tensor:
    if not torch.isfinite(embeddings).all():
        broken = (~torch.isfinite(embeddings)).flatten(1).any(1).nonzero().flatten().tolist()
        raise EvaluationError(
            f"{name} embeddings hold NaN or infinity in {len(broken)} clips (first: number {broken[0]}); "
            "ranks over them mean nothing. Look at the checkpoint and at these clips."
        )
    return torch.nn.functional.normalize(embeddings.float(), dim=-1)


def ranks(scores: Tensor) -> np.ndarray:
    """How many wrong candidates score as high as the right one or higher, per row, shape (N,); 0 is best.

    Ties count against the query, so a collapsed model, whose scores are all equal, gets nothing.
    """
    right = scores.diagonal().unsqueeze(1)
    return ((scores >= right - TIE_TOLERANCE).sum(1) - 1).cpu().numpy()


def score_direction(scores: Tensor, seed: int) -> Direction:
    query_ranks = ranks(scores)
    return Direction(
        recalls=tuple(_recall(query_ranks, k, seed) for k in RECALLS_AT),
        median_rank=float(np.median(query_ranks)) + 1,
    )


def _recall(query_ranks: np.ndarray, k: int, seed: int, num_resamples: int = 1000) -> Recall:
    num_queries = len(query_ranks)
    hits = query_ranks < k
    # The number of hits in a resample of N queries with replacement is binomial: no need to draw them.
    resampled = np.random.default_rng(seed).binomial(num_queries, hits.mean(), num_resamples) / num_queries
    low, high = np.percentile(100 * resampled, [2.5, 97.5])
    chance = 100 * min(k, num_queries) / num_queries
    return Recall(k, 100 * float(hits.mean()), float(low), float(high), chance)
