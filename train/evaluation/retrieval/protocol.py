"""`cavsync eval retrieval`: embeddings of clips, scored under every aggregation in both directions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cavsync.train.evaluation.retrieval.contamination import Contamination, contamination
from cavsync.train.evaluation.retrieval.ranking import num_tiles, rank
from cavsync.train.evaluation.retrieval.recall import Retrieval, retrieve, score_ranks
from cavsync.train.evaluation.retrieval.retrieval_scores import Candidates, RetrievalScores, WithoutTrained
from cavsync.train.evaluation.retrieval.similarity import AGGREGATIONS


def score_retrieval(
    candidates: Candidates,
    device: torch.device,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
) -> RetrievalScores:
    """Products are computed on `device`, tile by tile."""
    embeddings, job = candidates.embeddings, candidates.job
    classes = class_matrix(candidates.labels)
    total, done = len(AGGREGATIONS) * num_tiles(len(embeddings.keys)), 0

    def count() -> None:
        nonlocal done
        done += 1
        on_tile(done, total)

    by_aggregation = {
        name: retrieve(embeddings.audio, embeddings.image, name, job.seed, classes, device, count)
        for name in AGGREGATIONS
    }
    contaminated = contamination(embeddings.keys, candidates.training)
    without = _without_trained(candidates, by_aggregation[job.headline], contaminated, device)
    return RetrievalScores(
        **vars(candidates),
        by_aggregation=by_aggregation,
        contamination=contaminated,
        without_trained=without,
    )


def class_matrix(labels: Sequence[Sequence[str]] | None) -> Tensor | None:
    """(N, C) float32, 1 where a clip has a label; None where no clip has one."""
    names = sorted({name for of_clip in labels or () for name in of_clip})
    if not names or labels is None:
        return None
    number = {name: place for place, name in enumerate(names)}
    classes = torch.zeros(len(labels), len(names))
    for clip, of_clip in enumerate(labels):
        classes[clip, [number[name] for name in of_clip]] = 1
    return classes


def _without_trained(
    candidates: Candidates, whole: Retrieval, contaminated: Contamination, device: torch.device
) -> WithoutTrained | None:
    embeddings, job = candidates.embeddings, candidates.job
    trained, clean = contaminated.split(embeddings.keys)
    if not trained or len(clean) < 2:
        return None
    ranks = whole.ranking.own_clip
    alone = rank(embeddings.audio, embeddings.image, job.headline, device=device, among=clean).own_clip
    return WithoutTrained(
        num_clean=len(clean),
        trained_queries=score_ranks(ranks.of(trained), len(embeddings.keys), seed=job.seed),
        clean_queries=score_ranks(ranks.of(clean), len(embeddings.keys), seed=job.seed),
        clean_gallery=score_ranks(alone.of(clean), len(clean), seed=job.seed),
    )
