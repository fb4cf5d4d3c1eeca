"""Proves the p-values of controls on models whose answers are known."""

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.control import ControlRow, ControlRun, first_of_rows, p_of, permuted, right_answers, rotated

NUM_CLIPS, NUM_PAIRS, WIDTH, DRAWS = 24, 3, 16, 99


def drawn(seed: int) -> torch.Tensor:
    """(clips, pairs, width)."""
    return torch.randn(NUM_CLIPS, NUM_PAIRS, WIDTH, generator=torch.Generator().manual_seed(seed))


def control(audio: torch.Tensor, image: torch.Tensor) -> ControlRun:
    return ControlRun("run", audio, image)


def test_answers_are_right_where_the_partner_is_first_and_ties_are_none() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.2], [0.3, 0.3, 0.1], [0.8, 0.2, 0.1]])
    assert first_of_rows(scores).tolist() == [0, -1, 0]
    firsts = np.stack([first_of_rows(scores), first_of_rows(scores.T)])
    assert right_answers(firsts, np.array([0, 1, 2])).tolist() == [1, 2]
    # The audio of clip 2 belongs to the frames of clip 0, that of 0 to those of 1, that of 1 to those of 2.
    assert right_answers(firsts, np.array([1, 2, 0])).tolist() == [1, 0]


def test_a_model_that_knows_the_pairs_differs_from_every_null_and_one_that_knows_nothing_from_none() -> None:
    random = np.random.default_rng(0)
    own = np.arange(NUM_CLIPS)
    found = {}
    for name, image in (("knows", drawn(0)), ("nothing", drawn(1))):
        run = control(drawn(0), image)
        firsts = run.firsts()
        row = ControlRow(
            name,
            NUM_CLIPS,
            NUM_CLIPS,
            right_answers(firsts, own),
            permuted([firsts], DRAWS, random)[:, 0],
            (turned := rotated(run, DRAWS, random))[:, 0],
            run.within_clips(),
            turned[:, 1],
        )
        found[name] = row.figures()
        expected = stats.binomtest(int(row.found[0]), NUM_CLIPS, 1 / NUM_CLIPS, "greater").pvalue
        assert found[name]["p of chance, audio to video"] == pytest.approx(expected)
    assert found["knows"]["audio to video R@1, %"] == found["knows"]["within a clip, %"] == 100
    assert found["knows"]["within a clip, p of accidents"] == 1 / (DRAWS + 1)
    assert found["nothing"]["within a clip, p of accidents"] > 0.05
    assert (
        found["knows"]["both, p of other pairings"]
        == found["knows"]["both, p of accidents"]
        == 1 / (DRAWS + 1)
    )
    assert min(found["nothing"]["both, p of other pairings"], found["nothing"]["both, p of accidents"]) > 0.05


def test_two_runs_that_answer_alike_are_one_observation() -> None:
    """Pairings are permuted for all runs alike, so that a copy of a run makes nothing less probable."""
    firsts = control(drawn(0), drawn(2)).firsts()
    once, both = (permuted([firsts] * number, DRAWS, np.random.default_rng(0)) for number in (1, 2))
    assert (both[:, 0] == both[:, 1]).all()
    right = right_answers(firsts, np.arange(NUM_CLIPS)).sum()
    assert p_of(2 * right, both.sum(axis=1)) == p_of(right, once[:, 0])


def test_a_p_value_counts_the_model_itself() -> None:
    assert p_of(3, np.array([0, 1, 3, 4])) == 3 / 5
    assert p_of(9, np.zeros(99)) == 1 / 100


def test_rotations_leave_the_right_answers_that_timing_gives_by_accident() -> None:
    """Audio and frames of a clip change at the same moments and have nothing else in common, as in `benchmarks.near_chance`."""
    random = np.random.default_rng(0)
    amount = random.random((NUM_CLIPS, 8, 1))
    audio, image = (
        torch.from_numpy(amount * random.normal(size=WIDTH) + random.normal(size=WIDTH)).float()
        for _ in range(2)
    )
    right = rotated(control(audio, image), DRAWS, np.random.default_rng(1))[:, 0]
    assert right.max() > NUM_CLIPS  # of 2 * NUM_CLIPS, where chance is 2
    assert right.mean() > 4
