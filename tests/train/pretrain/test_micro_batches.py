"""Proves that a batch in parts is the batch at once: the same losses, the same gradients, every clip a negative."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.known_shards import micro_run, write_known_shards
from support.rank_work import MODELS, assert_same_gradients, gradients, run_of, some_batch
from support.trainings import Calls

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.objective import pretrain_step, recompute_activations
from cavsync.train.pretrain.trainer import pretrain


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(model: dict[str, Any]) -> None:
    config = run_of(**model)
    whole = gradients(config, Ranks())
    for micro_batch in (4, 1):
        assert_same_gradients(gradients(replace(config, micro_batch=micro_batch), Ranks()), whole)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_parameter_that_trains_has_a_gradient(model: dict[str, Any]) -> None:
    # The processes of one run wait for each gradient: one that never comes would stop them.
    _, grads = gradients(run_of(**model), Ranks())
    assert all(grad is not None for grad in grads.values())


def test_recomputing_activations_keeps_the_gradient_and_the_names() -> None:
    config = run_of(joint_depth=2)
    again = replace(config, activation_checkpointing=True)
    assert_same_gradients(gradients(again, Ranks()), gradients(config, Ranks()))
    assert_same_gradients(gradients(replace(again, micro_batch=2), Ranks()), gradients(config, Ranks()))
    model = CavMaeSync(config.model)
    names = list(model.state_dict())
    recompute_activations(model)
    assert list(model.state_dict()) == names


def test_recomputing_activations_keeps_fewer_of_them() -> None:
    def kept_bytes(forget: bool) -> int:
        config = replace(run_of(encoder_depth=3, decoder_depth=3), activation_checkpointing=forget)
        kept = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            gradients(config, Ranks())
        return kept

    assert kept_bytes(True) < kept_bytes(False)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_parts_in_half_precision_come_near_the_whole(precision: str) -> None:
    config = replace(run_of(), precision=precision, optimizer=replace(run_of().optimizer, clip_grad_norm=1.0))
    numbers = []
    for micro_batch in (None, 2):
        torch.manual_seed(0)
        step = pretrain_step(
            replace(config, micro_batch=micro_batch), CavMaeSync(config.model), torch.device("cpu")
        )
        numbers.append([vars(step(some_batch(config), number, 1e-3).read()) for number in (1, 2)])
    for whole, parts in zip(*numbers, strict=True):
        assert parts == pytest.approx(whole, rel=0.02, nan_ok=True)


def test_a_run_may_change_its_micro_batch_when_it_resumes(tmp_path: Path) -> None:
    config = micro_run(write_known_shards(tmp_path / "shards", num_clips=12), batch_size=6, num_steps=2)
    whole = pretrain(config, tmp_path / "whole", device="cpu")

    class KilledError(Exception):
        pass

    def kill(metrics: object) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        pretrain(config, tmp_path / "parts", device="cpu", callbacks=[Calls(on_step=kill)])
    parts = pretrain(
        replace(config, micro_batch=2, activation_checkpointing=True),
        tmp_path / "parts",
        device="cpu",
        resume=True,
    )
    assert parts.last.losses.loss == pytest.approx(whole.last.losses.loss, abs=1e-5)
    assert parts.last.losses.grad_norm == pytest.approx(whole.last.losses.grad_norm, rel=1e-4)
