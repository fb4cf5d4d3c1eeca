"""Proves the retrieval scores: matrix products equal the definition pair by pair, ties give no advantage, chance is counted."""

import math

import numpy as np
import pytest
import torch

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.retrieval import ranking
from cavsync.train.evaluation.retrieval.metrics import Directions, chance, num_right, retrieve, score_ranks
from cavsync.train.evaluation.retrieval.ranking import RetrievalRanks, rank
from cavsync.train.evaluation.retrieval.similarity import AGGREGATIONS, UnitVectors, right_scores, similarity

# From the specification: row 1 ties with one wrong candidate and one is better; row 3 ties with all.
WORKED = [[0.9, 0.1, 0.2, 0.3], [0.8, 0.5, 0.5, 0.1], [0.2, 0.3, 0.4, 0.6], [0.1, 0.1, 0.1, 0.1]]


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


def with_scores(scores: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of one pair a clip whose cosines are half of `scores`."""
    halves = torch.tensor(scores) / 2
    rest = (1 - (halves**2).sum(1, keepdim=True)).sqrt()
    image = torch.eye(len(halves), len(halves) + 1)
    return torch.cat([halves, rest], dim=1)[:, None], image[:, None]


def of_ranks(ranks: list[int], num_candidates: int) -> Directions:
    return score_ranks(RetrievalRanks(np.array(ranks), np.array(ranks)), num_candidates)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_one_product_equals_the_definition(aggregation, embeddings) -> None:
    expected = pair_by_pair(*embeddings, aggregation)
    np.testing.assert_allclose(similarity(*embeddings, aggregation), expected, atol=1e-6)
    units = torch.nn.functional.normalize(torch.stack(embeddings), dim=-1)
    np.testing.assert_allclose(right_scores(*units, aggregation), expected.diagonal(), atol=1e-6)


def test_blocks_of_queries_do_not_change_the_maximum(embeddings, monkeypatch) -> None:
    whole = similarity(*embeddings, "max")
    monkeypatch.setattr("cavsync.train.evaluation.retrieval.similarity.MAX_BLOCK_SCORES", 1)
    assert torch.equal(similarity(*embeddings, "max"), whole)


def test_ties_count_against_the_query() -> None:
    audio, image = with_scores(WORKED)
    assert rank(audio, image, "diagonal-mean").own_clip.audio_to_video.tolist() == [0, 2, 1, 3]
    found = retrieve(audio, image, "diagonal-mean").audio_to_video
    assert [recall.value for recall in found.recalls.values()] == [25.0, 100.0, 100.0]
    assert found.median.value == 2.5
    assert [recall.chance for recall in found.recalls.values()] == [25.0, 100.0, 100.0]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("tile", [1, 3, 512])
def test_tiles_rank_as_the_whole_matrix_does_both_ways_and_by_class(aggregation, tile, monkeypatch) -> None:
    monkeypatch.setattr(ranking, "CHUNK_CLIPS", tile)
    generator = torch.Generator().manual_seed(1)
    audio, image = torch.randn(2, 11, 3, 4, generator=generator)
    classes = (torch.rand(11, 3, generator=generator) < 0.4).float()  # some clips have no class, some two
    scores = pair_by_pair(audio, image, aggregation)
    found = rank(audio, image, aggregation, classes)
    same_class = (classes @ classes.T > 0).numpy() | np.eye(11, dtype=bool)
    for ranks, same in ((found.own_clip, np.eye(11, dtype=bool)), (found.same_class, same_class)):
        assert ranks is not None
        for one, matrix, right in (
            (ranks.audio_to_video, scores, same),
            (ranks.video_to_audio, scores.T, same.T),
        ):
            best = np.where(right, matrix, -np.inf).max(1)
            expected = ((matrix >= best[:, None]) & ~right).sum(1)
            assert one.tolist() == expected.tolist()


def test_a_gallery_within_the_clips_ranks_as_if_the_others_were_not_there(embeddings) -> None:
    chosen = [0, 2, 3, 6]
    within = rank(*embeddings, "mean", among=chosen).own_clip.of(chosen)
    alone = rank(*(part[chosen] for part in embeddings), "mean").own_clip
    assert within.audio_to_video.tolist() == alone.audio_to_video.tolist()
    assert within.video_to_audio.tolist() == alone.video_to_audio.tolist()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_matrix_of_all_scores_never_exists(aggregation, monkeypatch) -> None:
    seen: list[int] = []
    product = ranking.product

    def counted(*arguments):
        seen.append(product(*arguments).numel())
        return product(*arguments)

    monkeypatch.setattr(ranking, "product", counted)
    monkeypatch.setattr(ranking, "CHUNK_CLIPS", 16)
    audio, image = torch.randn(2, 100, 2, 4, generator=torch.Generator().manual_seed(0))
    rank(audio, image, aggregation, torch.ones(100, 1))
    assert max(seen) == 16 * 16


def test_pieces_come_at_length_one_in_any_float_type_and_order(embeddings) -> None:
    audio, _ = embeddings
    for stored, atol in ((audio, 1e-6), (audio.double(), 1e-6), (audio.half(), 1e-3)):
        units = UnitVectors.of(stored, "audio")
        for clips in ([0, 1, 2], [1, 4, 6]):
            taken = units.take(torch.tensor(clips), torch.empty(5, 4, 5))
            expected = torch.nn.functional.normalize(audio[clips], dim=-1)
            torch.testing.assert_close(taken, expected, atol=atol, rtol=0)
        assert units.embeddings is stored  # nothing is copied, and the caller's embeddings are not changed


def test_a_collapsed_model_scores_nothing() -> None:
    # Equal embeddings of a width whose sums round differently by position.
    same = torch.randn(1, 16, 768, generator=torch.Generator().manual_seed(1)).expand(50, 16, 768)
    classes = torch.eye(10).repeat(5, 1)
    for aggregation in AGGREGATIONS:
        result = retrieve(same, same.clone(), aggregation, classes=classes)
        assert result.audio_to_video.recalls[1].value == 0
        assert result.video_to_audio.median.value == 50
        assert result.same_class is not None
        assert result.same_class.audio_to_video.median.value == 46  # behind the 45 clips of other classes


def test_directions_are_not_swapped() -> None:
    # Both audio embeddings resemble image 0 most: as queries one of them errs, as candidates image 1 still
    # prefers its own audio.
    audio = torch.tensor([[[1.0, 0.0]], [[0.8, 0.6]]])
    image = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    result = retrieve(audio, image, "diagonal-mean")
    assert result.audio_to_video.recalls[1].value == 50
    assert result.video_to_audio.recalls[1].value == 100


def test_any_clip_of_the_class_is_right_in_ranks_by_class() -> None:
    # Audio 0 and 1 are of one class; each finds the other's image.
    audio = torch.tensor([[[1.0, 0, 0]], [[0, 1.0, 0]], [[0, 0, 1.0]]])
    image = audio[[1, 0, 2]]
    classes = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    result = retrieve(audio, image, "mean", classes=classes)
    assert result.same_class is not None
    assert result.audio_to_video.recalls[1].value == pytest.approx(100 / 3)
    assert result.same_class.audio_to_video.recalls[1].value == 100
    assert result.same_class.video_to_audio.recalls[1].chance == pytest.approx(100 * (2 + 2 + 1) / 9)
    assert retrieve(audio, image, "mean").same_class is None


def test_chance_is_that_of_drawing_blindly() -> None:
    assert [round(chance(k, 1545, 1), 3) for k in (1, 5, 10)] == [0.065, 0.324, 0.647]
    drawn = 1 - math.comb(20 - 5, 10) / math.comb(20, 10)
    assert chance(10, 20, 5) == pytest.approx(100 * drawn)
    assert chance(10, 20, np.array([5, 20])) == pytest.approx(50 * drawn + 50)
    assert chance(5, 3, 1) == 100
    classes = torch.tensor([[1.0, 0], [1, 1], [0, 1], [0, 0]])
    assert num_right(classes).tolist() == [2, 3, 2, 1]


def test_the_interval_holds_the_score_and_widens_with_fewer_clips() -> None:
    def interval(num_clips: int) -> tuple[float, float, float]:
        recall = of_ranks([0, 7] * (num_clips // 2), num_clips).audio_to_video.recalls[1]
        return recall.low, recall.value, recall.high

    low, percent, high = interval(400)
    assert percent == 50
    # 1.96 standard errors of a fraction of 1/2 among 400 are 4.9 points.
    assert low == pytest.approx(percent - 4.9, abs=1)
    assert high == pytest.approx(percent + 4.9, abs=1)
    few_low, _, few_high = interval(40)
    assert few_high - few_low > 2 * (high - low)


def test_the_interval_of_the_median_is_that_of_resampling() -> None:
    ranks = np.random.default_rng(0).geometric(0.02, 301) - 1
    median = of_ranks(ranks.tolist(), 1000).audio_to_video.median
    drawn = np.random.default_rng(1).choice(ranks, (4000, 301))
    low, high = np.percentile(np.median(drawn, axis=1) + 1, [2.5, 97.5])
    assert median.value == np.median(ranks) + 1
    assert median.low == pytest.approx(low, abs=2)
    assert median.high == pytest.approx(high, abs=2)


@pytest.mark.parametrize(
    ("value", "what"), [(torch.nan, "hold NaN or infinity"), (torch.inf, "hold NaN or infinity")]
)
def test_embeddings_that_are_not_finite_are_refused_with_the_clip(value: float, what: str) -> None:
    audio = torch.ones(3, 2, 4)
    audio[1, 0, 2] = value
    with pytest.raises(EvaluationError, match=rf"audio embeddings {what} in 1 clips \(first: number 1\)"):
        retrieve(audio, torch.ones(3, 2, 4), "mean")
    with pytest.raises(EvaluationError, match=r"\(first: b\)"):
        UnitVectors.of(audio, "audio", ["a", "b", "c"])


def test_embeddings_without_a_direction_are_refused() -> None:
    image = torch.ones(3, 2, 4)
    image[2, 1] = 0
    with pytest.raises(
        EvaluationError, match=r"image embeddings are all zeros in 1 clips \(first: number 2\)"
    ):
        retrieve(torch.ones(3, 2, 4), image, "mean")


@pytest.mark.parametrize("shape", [(3, 1, 4), (2, 2, 4), (3, 2, 5)])
def test_embeddings_of_different_shapes_are_refused_with_both(shape: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationError, match=r"\(3, 2, 4\) and image embeddings \(\d, \d, \d\)"):
        retrieve(torch.ones(3, 2, 4), torch.ones(shape), "mean")
