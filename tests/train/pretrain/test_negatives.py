"""Proves that the contrastive loss in groups is one number, with one gradient, over any processes and micro-batches."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.known_shards import micro_model, micro_run
from support.rank_work import SomeRanks, assert_same_gradients, forked_ranks, gradients, rank_gradients

from cavsync.model.losses import contrastive_loss
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.presets import preset

MAX_RANKS = 4


@pytest.fixture(scope="module")
def ranks() -> Iterator[SomeRanks]:
    with forked_ranks(MAX_RANKS) as some:
        yield some


@st.composite
def divided_batches(draw: st.DrawFn) -> tuple[int, PretrainConfig]:
    """A number of ranks, and a run whose batch divides into as many parts, into micro-batches and into groups."""
    num_ranks = draw(st.integers(1, MAX_RANKS))
    of_a_rank = draw(st.sampled_from([2, 3, 4, 6]))
    batch = num_ranks * of_a_rank
    groups = [size for size in range(2, batch + 1) if batch % size == 0]
    parts = [size for size in range(1, of_a_rank + 1) if of_a_rank % size == 0]
    config = micro_run(
        Path(),
        model=micro_model(global_local_losses=draw(st.booleans()), contrastive_direction="two-way"),
        batch_size=batch,
        micro_batch=draw(st.sampled_from([None, *parts])),
        negatives=draw(st.sampled_from(groups)),
    )
    return num_ranks, config


# Without shrinking, which would take minutes.
@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(divided=divided_batches())
def test_groups_have_the_gradient_of_one_process_over_any_ranks_and_micro_batches(
    ranks: SomeRanks, divided: tuple[int, PretrainConfig]
) -> None:
    num_ranks, config = divided
    whole = gradients(replace(config, micro_batch=None), Ranks())
    for (answer,) in ranks(num_ranks, rank_gradients, [config]):
        # Few clips leave small sums of large numbers; another grouping is wrong by more than a tenth.
        assert_same_gradients(answer, whole, tolerance=1e-5)


@pytest.mark.parametrize("levels", [(), (2,)], ids=["one level", "two levels"])
@pytest.mark.parametrize("direction", ["one-way", "two-way"])
def test_the_loss_of_groups_is_the_mean_of_their_losses(levels: tuple[int, ...], direction: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    audio, image = torch.randn(2, 12, *levels, 5, generator=generator)
    for size in (2, 3, 6):
        parts = [
            contrastive_loss(*part, 0.05, direction)
            for part in zip(audio.split(size), image.split(size), strict=True)
        ]
        groups = contrastive_loss(audio, image, 0.05, direction, group_size=size)
        torch.testing.assert_close(groups.loss, torch.stack([part.loss for part in parts]).mean())
        torch.testing.assert_close(groups.accuracy, torch.stack([part.accuracy for part in parts]).mean())
    whole = contrastive_loss(audio, image, 0.05, direction)
    assert contrastive_loss(audio, image, 0.05, direction, group_size=12) == whole


def test_the_presets_compare_as_many_clips_as_their_authors() -> None:
    for name, batch, candidates in (("sync-base", 512, 128), ("cavmae-base", 120, 30)):
        config = preset(name)
        assert (config.batch_size, config.batch_size // 4) == (batch, candidates)
        assert {config.group_size(num_ranks) for num_ranks in (1, 2, 4, 8)} == {candidates}
        # Four processes of `local` are the authors' four GPUs.
        assert replace(config, negatives="local").group_size(4) == candidates
    assert preset("tiny").group_size(2) == 64


def test_a_batch_of_fewer_clips_than_candidates_is_one_group() -> None:
    assert replace(preset("sync-base"), batch_size=15).group_size(1) == 15


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "100",
            "negatives=100 does not divide batch_size=512: .* are 500 and 600; negatives=global takes the whole",
        ),
        ("1", "negatives=1 must be at least 2: a clip alone is compared with nothing"),
        ("many", r"negatives='many' is not of type 'global' \| 'local' \| int"),
        ("none", r"negatives='none' is not of type 'global' \| 'local' \| int"),
    ],
)
def test_a_number_of_candidates_that_cannot_be_is_refused(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(preset("sync-base"), [f"negatives={value}"])
