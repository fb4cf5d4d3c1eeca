"""Proves the retrieval scores: matrix products equal the definition pair by pair, and ties help nobody."""

import numpy as np
import pytest
import torch

from cavsync.train.evaluation.retrieval import (
    AGGREGATIONS,
    EvaluationError,
    ranks,
    retrieve,
    score_direction,
    similarity,
)


@pytest.fixture
def embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    audio, image = torch.randn(2, 7, 4, 5, generator=generator)
    return audio, image


def pair_by_pair(audio: torch.Tensor, image: torch.Tensor, aggregation: str) -> np.ndarray:
    """The definition, one pair of clips at a time, in float64."""
    a = torch.nn.functional.normalize(audio.double(), dim=-1).numpy()
    v = torch.nn.functional.normalize(image.double(), dim=-1).numpy()
    reduce = {
        "diagonal-mean": lambda block: np.diag(block).mean(),
        "diagonal-max": lambda block: np.diag(block).max(),
        "mean": lambda block: block.mean(),
        "max": lambda block: block.max(),
    }[aggregation]
    return np.array([[reduce(a[i] @ v[j].T) for j in range(len(v))] for i in range(len(a))])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_one_product_equals_the_definition(aggregation, embeddings) -> None:
    scores = similarity(*embeddings, aggregation)
    np.testing.assert_allclose(scores, pair_by_pair(*embeddings, aggregation), atol=1e-6)


def test_blocks_of_queries_do_not_change_the_maximum(embeddings, monkeypatch) -> None:
    whole = similarity(*embeddings, "max")
    monkeypatch.setattr("cavsync.train.evaluation.retrieval.MAX_BLOCK_SCORES", 1)
    assert torch.equal(similarity(*embeddings, "max"), whole)


def test_ties_count_against_the_query() -> None:
    # Worked by hand: row 1 ties with one wrong candidate and one is better; row 3 ties with all.
    scores = torch.tensor(
        [[0.9, 0.1, 0.2, 0.3], [0.8, 0.5, 0.5, 0.1], [0.2, 0.3, 0.4, 0.6], [0.1, 0.1, 0.1, 0.1]]
    )
    assert ranks(scores).tolist() == [0, 2, 1, 3]
    direction = score_direction(scores, seed=0)
    assert [recall.percent for recall in direction.recalls] == [25.0, 100.0, 100.0]
    assert direction.median_rank == 2.5
    assert [recall.chance for recall in direction.recalls] == [25.0, 100.0, 100.0]


def test_a_collapsed_model_scores_nothing() -> None:
    # Equal embeddings of a width whose sums round differently by position.
    same = torch.randn(1, 4, 96, generator=torch.Generator().manual_seed(1)).expand(50, 4, 96)
    for aggregation in AGGREGATIONS:
        result = retrieve(same, same.clone(), aggregation)
        assert result.audio_to_video.recalls[0].percent == 0
        assert result.video_to_audio.median_rank == 50


def test_directions_are_not_swapped() -> None:
    # Both sounds resemble picture 0 most: as queries one of them errs, as candidates picture 1 still
    # prefers its own sound.
    audio = torch.tensor([[[1.0, 0.0]], [[0.8, 0.6]]])
    image = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    result = retrieve(audio, image, "diagonal-mean")
    assert result.audio_to_video.recalls[0].percent == 50
    assert result.video_to_audio.recalls[0].percent == 100


def test_the_interval_holds_the_score_and_widens_with_fewer_clips() -> None:
    def interval(num_clips: int) -> tuple[float, float, float]:
        scores = torch.rand(num_clips, num_clips, generator=torch.Generator().manual_seed(0))
        scores[: num_clips // 2].fill_diagonal_(2.0)
        recall = score_direction(scores, seed=0).recalls[0]
        return recall.low, recall.percent, recall.high

    low, percent, high = interval(400)
    assert 50 <= percent < 53
    # 1.96 standard errors of a share of 1/2 among 400 are 4.9 points.
    assert low == pytest.approx(percent - 4.9, abs=1)
    assert high == pytest.approx(percent + 4.9, abs=1)
    few_low, _, few_high = interval(40)
    assert few_high - few_low > 2 * (high - low)


def test_embeddings_that_are_not_finite_are_refused_with_the_clip() -> None:
    audio = torch.ones(3, 2, 4)
    audio[1, 0, 2] = torch.nan
    with pytest.raises(EvaluationError, match=r"NaN or infinity in 1 clips \(first: number 1\)"):
        retrieve(audio, torch.ones(3, 2, 4), "mean")


def test_embeddings_of_different_shapes_are_refused_with_both() -> None:
    with pytest.raises(EvaluationError, match=r"\(3, 2, 4\) and image embeddings \(3, 1, 4\)"):
        retrieve(torch.ones(3, 2, 4), torch.ones(3, 1, 4), "mean")
