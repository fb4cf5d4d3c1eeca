"""Proves a contrast with a view of its own and its teacher: nothing changes where they are off, and where they are on the
result depends neither on micro-batches nor on processes nor on where a run was stopped."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.known_shards import micro_run, write_known_shards
from support.rank_work import (
    CPU,
    INPUTS,
    SomeRanks,
    assert_same_gradients,
    forked_ranks,
    gradients,
    rank_gradients,
    run_of,
    some_batch,
)
from support.trainings import Calls
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.masking import draw_mask, mask_lines, sampling_scores
from cavsync.train.data.images import normalise_images
from cavsync.train.data.pair_rule import (
    CONTRAST_NOISE,
    CONTRAST_STREAM,
    ITEM_STREAM,
    ORDER_STREAM,
    PAIRING_STREAM,
)
from cavsync.train.data.run import open_run
from cavsync.train.data.sampler import CLASS_ORDER_STREAM, Position
from cavsync.train.data.stream.source import CHUNK_STREAM
from cavsync.train.engine.config import ConfigError, as_dict, from_dict
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import StepMetrics
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.engine.step import TrainStep
from cavsync.train.finetune import items
from cavsync.train.pretrain.config import ContrastViewConfig, PretrainConfig, TeacherConfig
from cavsync.train.pretrain.objective import pretrain_step
from cavsync.train.pretrain.plots import run_curves
from cavsync.train.pretrain.trainer import open_source, pretrain

MOMENTUM = 0.9
TEACHER = TeacherConfig(momentum=MOMENTUM, distillation_weight=1.0)
GUIDED: dict[str, Any] = {"contrast_view": ContrastViewConfig(own=True, choice="top"), "teacher": TEACHER}
# Each takes another way through the views, the teacher or the losses.
VARIANTS: dict[str, PretrainConfig] = {
    "own": replace(run_of(), contrast_view=ContrastViewConfig(own=True)),
    "own, masked by lines": replace(
        run_of(audio_mask_mode="time-freq"),
        contrast_view=ContrastViewConfig(own=True, mask_ratio_audio=0.75, mask_ratio_image=0.25),
    ),
    "own, unmasked": replace(
        run_of(global_tokens="none", num_registers=0),
        contrast_view=ContrastViewConfig(own=True, mask_ratio_audio=0, mask_ratio_image=0),
    ),
    "distilled": replace(run_of(), teacher=TEACHER),
    "own, distilled, no global token": replace(
        run_of(global_tokens="none"), contrast_view=ContrastViewConfig(own=True), teacher=TEACHER
    ),
    "guided": replace(run_of(contrastive_direction="two-way"), **GUIDED),
    "guided, per-task, heads": replace(
        run_of(global_tokens="per-task", keep_registers=True, contrastive_head_depth=1, joint_depth=2),
        **GUIDED,
    ),
    "guided, not distilled": replace(
        run_of(global_local_losses=True), **GUIDED | {"teacher": TeacherConfig(momentum=MOMENTUM)}
    ),
    "sampled": replace(
        run_of(), **GUIDED | {"contrast_view": ContrastViewConfig(own=True, choice="sampled")}
    ),
    "of another clip": replace(
        run_of(), **GUIDED | {"contrast_view": ContrastViewConfig(own=True, choice="other-clip")}
    ),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"), num_clips=6)


@pytest.fixture(scope="module")
def ranks() -> Iterator[SomeRanks]:
    with forked_ranks(2) as both:
        yield both


def started(config: PretrainConfig) -> TrainStep[Any]:
    torch.manual_seed(0)
    return pretrain_step(config, CavMaeSync(config.model), CPU)


def taught(step: TrainStep[Any]) -> dict[str, Tensor]:
    """The weights of the teacher of a step, copied."""
    teacher = step.state_dict()["teacher"]
    return {name: tensor.clone() for name, tensor in teacher.items()}


def views(step: TrainStep[Any], batch: dict[str, Any]) -> list[Tensor]:
    """The patches that the contrast sees of each clip of a batch, of audio and of images."""
    seen: list[Tensor] = []
    forward = step.model.forward

    def recorded(*arguments: Any) -> Any:
        seen.extend(arguments[4:])
        return forward(*arguments)

    step.model.forward = recorded
    step.objective.backward(batch, lambda loss: loss)
    step.model.forward = forward
    return seen


# Off


def test_a_step_without_a_view_of_its_own_is_that_of_sync_to_the_bit() -> None:
    config = run_of()
    losses, grads = gradients(config, Ranks())
    torch.manual_seed(0)
    model, batch = CavMaeSync(config.model), some_batch(config)
    audio, image, *noise = (batch[name] for name in INPUTS)
    out = model(audio, normalise_images(image), *noise)
    out.loss.backward()
    assert losses == {
        "loss": out.loss.item(),
        "reconstruction_audio": out.reconstruction_audio.item(),
        "reconstruction_image": out.reconstruction_image.item(),
        "contrastive": out.contrastive.item(),
        "accuracy": out.contrastive_accuracy.item(),
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(torch.from_numpy(grads[name]), parameter.grad), name


def test_a_run_without_a_teacher_has_the_checkpoint_and_the_batches_of_sync(
    shards: Path, tmp_path: Path
) -> None:
    config = micro_run(shards, num_steps=1)
    checkpoint = torch.load(pretrain(config, tmp_path / "run", device="cpu").checkpoint, weights_only=True)
    of_step = {"format", "step", "config", "num_ranks", "rng", "model", "optimizer", "scaler"}
    assert checkpoint.keys() == of_step | {"model_config", "initial_weights", "clips", "position"}
    assert checkpoint["model"].keys() == CavMaeSync(config.model).state_dict().keys()
    (batch,) = first_batches(config, 1)
    assert batch.keys() == {*INPUTS, "key", "frame"}


def test_a_configuration_from_before_is_read_as_sync() -> None:
    stored = as_dict(run_of())
    del stored["contrast_view"], stored["teacher"]
    assert from_dict(PretrainConfig, stored) == run_of()


def first_batches(config: PretrainConfig, count: int) -> list[dict[str, Any]]:
    stream = open_source(config).batches(Position(config.seed, 0, 0), Ranks(), CPU)
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


@pytest.mark.parametrize("source", ["index", "stream"])
def test_masks_of_the_second_view_are_drawn_apart_so_that_all_else_stays(shards: Path, source: str) -> None:
    config = micro_run(shards)
    config = replace(config, data=replace(config.data, source=source))
    own = replace(config, contrast_view=ContrastViewConfig(own=True))
    for without, batch in zip(first_batches(config, 4), first_batches(own, 4), strict=True):
        assert batch.keys() == without.keys() | set(CONTRAST_NOISE)
        assert batch["key"] == without["key"]
        for name in (*INPUTS, "frame"):
            assert torch.equal(batch[name], without[name]), name
        for name in CONTRAST_NOISE:
            other = batch[name.removeprefix("contrast_")]
            assert batch[name].shape == other.shape
            assert not (batch[name] == other).any()
            assert 0 <= batch[name].min() < batch[name].max() < 1


def test_no_two_streams_of_random_numbers_have_one_seed() -> None:
    streams = (ITEM_STREAM, ORDER_STREAM, PAIRING_STREAM, CHUNK_STREAM, CONTRAST_STREAM)
    streams += (CLASS_ORDER_STREAM, items.ITEM_STREAM)
    assert len(set(streams)) == len(streams)


def test_only_choices_that_draw_have_noise_of_their_own(shards: Path) -> None:
    guided = replace(micro_run(shards), **GUIDED)
    (batch,) = first_batches(guided, 1)
    assert not set(CONTRAST_NOISE) & batch.keys()


# Which patches are kept


def test_random_patches_follow_their_noise_and_the_ratio_of_the_view() -> None:
    config = VARIANTS["own, masked by lines"]
    batch, model = some_batch(config), config.model
    audio, image = views(started(config), batch)
    in_lines = mask_lines(batch["contrast_noise_audio"], model.audio_grid, 0.75, "time-freq")
    assert torch.equal(audio, draw_mask(in_lines, 0.75).kept)
    assert torch.equal(image, draw_mask(batch["contrast_noise_image"], 0.25).kept)


@pytest.mark.parametrize("choice", ["top", "bottom", "other-clip", "sampled"])
@pytest.mark.parametrize("priority", ["global-to-patch", "patch-to-global"])
def test_priorities_of_the_teacher_decide_which_patches_are_kept(choice: str, priority: str) -> None:
    config = replace(
        run_of(),
        contrast_view=ContrastViewConfig(own=True, choice=choice),
        teacher=replace(TEACHER, priority=priority),
    )
    step, batch = started(config), some_batch(config)
    with torch.no_grad():
        given = [
            step.model.guide_audio(batch["audio"], priority).priority,
            step.model.guide_image(normalise_images(batch["image"]), priority).priority,
        ]
    expected = {
        "top": [-one for one in given],
        "bottom": given,
        "other-clip": [-torch.cat([one[1:], one[:1]]) for one in given],
        "sampled": [
            sampling_scores(one, batch[name])
            for one, name in zip(given, CONTRAST_NOISE if choice == "sampled" else (), strict=False)
        ],
    }[choice]
    kept = views(step, batch)
    assert [one.shape[1] for one in kept] == [8, 2]
    for ours, scores in zip(kept, expected, strict=True):
        assert torch.equal(ours, draw_mask(scores, 0.5).kept)


# Losses and gradients


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_in_parts_has_the_gradient_of_the_whole_and_every_parameter_has_one(name: str) -> None:
    config = VARIANTS[name]
    whole = gradients(config, Ranks())
    assert all(grad is not None for grad in whole[1].values())
    again = replace(config, micro_batch=2, activation_checkpointing=True)
    assert_same_gradients(gradients(again, Ranks()), whole)


def test_two_processes_have_the_gradient_of_one(ranks: SomeRanks) -> None:
    configs = [
        replace(config, micro_batch=(None, 2)[number % 2]) for number, config in enumerate(VARIANTS.values())
    ]
    answers = ranks(2, rank_gradients, configs)
    for config, *both in zip(VARIANTS.values(), *answers, strict=True):
        whole = gradients(config, Ranks())
        for one in both:
            assert_same_gradients(one, whole)


def test_the_total_has_the_distillation_with_its_weight_and_a_weight_of_0_only_logs_it() -> None:
    def of_weight(weight: float) -> tuple[dict[str, float], dict[str, Any]]:
        return gradients(replace(run_of(), teacher=replace(TEACHER, distillation_weight=weight)), Ranks())

    (one, _), (three, _), (none, off) = of_weight(1.0), of_weight(3.0), of_weight(0.0)
    assert one["distillation"] == three["distillation"] == none["distillation"] > 0.01
    assert three["loss"] - one["loss"] == pytest.approx(2 * one["distillation"], rel=1e-5)
    losses, without = gradients(run_of(), Ranks())
    assert none == losses | {"distillation": none["distillation"]}
    assert all((off[name] == without[name]).all() for name in without)


def test_distillation_compares_the_contrasts_view_with_the_whole_inputs_of_the_teacher() -> None:
    # A view of all patches through the same weights gives the tokens of the teacher.
    whole = ContrastViewConfig(own=True, mask_ratio_audio=0, mask_ratio_image=0)
    losses, _ = gradients(replace(run_of(), contrast_view=whole, teacher=TEACHER), Ranks())
    assert losses["distillation"] == pytest.approx(0, abs=1e-10)


def test_a_compiled_teacher_gives_the_same_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    # The compiler's front half alone: generating code would take the test minutes.
    eager = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr("cavsync.train.pretrain.teacher.torch.compile", eager)
    monkeypatch.setattr(CavMaeSync, "compile", lambda model: None)  # test_trainer compiles it
    config = VARIANTS["guided"]
    assert_same_gradients(gradients(replace(config, compile=True), Ranks()), gradients(config, Ranks()), 1e-5)


# The teacher


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_teacher_is_the_moving_average_of_the_weights_after_each_step(micro_batch: int | None) -> None:
    step = started(replace(VARIANTS["guided"], micro_batch=micro_batch))
    start, weights = taught(step), []
    assert all(torch.equal(tensor, step.model.state_dict()[name]) for name, tensor in start.items())
    for number in (1, 2, 3):
        step(some_batch(step.config, number), number, lr=1e-2)
        weights.append({name: tensor.clone() for name, tensor in step.model.state_dict().items()})
    m = MOMENTUM
    for name, tensor in taught(step).items():
        one, two, three = (after[name].double() for after in weights)
        expected = m**3 * start[name].double() + (1 - m) * (m**2 * one + m * two + three)
        torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(weights[0]["norm_a.weight"], weights[2]["norm_a.weight"])


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_of_1_never_moves_and_of_0_is_the_model(momentum: float) -> None:
    config = replace(VARIANTS["guided"], teacher=replace(TEACHER, momentum=momentum))
    step = started(config)
    start = taught(step)
    step(some_batch(config), 1, lr=1e-2)
    expected = start if momentum == 1 else step.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in taught(step).items())


def test_the_teacher_is_not_trained_and_has_no_decoder() -> None:
    step = started(VARIANTS["guided"])
    teacher = step.objective.teacher.encoder
    step(some_batch(step.config), 1, lr=1e-2)
    assert not any(one.requires_grad or one.grad is not None for one in teacher.parameters())
    stepped = {id(one) for group in step.optimizer.param_groups for one in group["params"]}
    assert not stepped & {id(one) for one in teacher.parameters()}
    assert stepped == {id(one) for one in step.model.parameters() if one.requires_grad}
    assert not any("decoder" in name or name == "mask_token" for name in teacher.state_dict())
    shared = {one.data_ptr() for one in teacher.parameters()} & {
        one.data_ptr() for one in step.model.parameters()
    }
    assert not shared


def test_making_a_teacher_draws_no_random_number() -> None:
    config = VARIANTS["guided"]
    model = CavMaeSync(config.model)
    before = torch.get_rng_state()
    step = pretrain_step(config, model, CPU)
    step(some_batch(config), 1, lr=1e-2)
    assert torch.equal(torch.get_rng_state(), before)


# Runs


def test_two_steps_and_two_more_equal_four_with_the_teacher_and_its_losses_are_logged(
    shards: Path, tmp_path: Path
) -> None:
    def stop(metrics: StepMetrics[Any]) -> None:
        if metrics.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    config = replace(micro_run(shards), **GUIDED)
    facts: list[Any] = []
    whole = pretrain(config, tmp_path / "whole", device="cpu", callbacks=[Calls(on_start=facts.append)])
    assert pretrain(config, tmp_path / "parts", device="cpu", callbacks=[Calls(on_step=stop)]).step == 2
    resumed = pretrain(config, tmp_path / "parts", device="cpu", resume=True)
    one, two = (torch.load(run.checkpoint, weights_only=True) for run in (whole, resumed))
    for entry in ("teacher", "model"):
        assert one[entry].keys() == two[entry].keys()
        assert all(torch.equal(tensor, two[entry][name]) for name, tensor in one[entry].items()), entry
    weights = load_file(whole.weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(resumed.weights).items())
    moved = [name for name, tensor in one["teacher"].items() if not torch.equal(tensor, one["model"][name])]
    assert "blocks_u.0.attn.qkv.weight" in moved
    assert facts[0].num_teacher_parameters == sum(tensor.numel() for tensor in one["teacher"].values())

    # The file of weights, and the model of a checkpoint, are the student alone.
    assert weights.keys() == one["model"].keys()
    of_checkpoint = load_model(whole.checkpoint).state_dict()
    assert all(torch.equal(tensor, of_checkpoint[name]) for name, tensor in weights.items())

    metrics = open_run(tmp_path / "parts").metrics()
    assert (metrics["distillation"] > 0).all()
    validations = open_run(tmp_path / "parts").validation()
    without = metrics.drop(columns="distillation")
    assert run_curves(metrics, validations) != run_curves(without, validations)


# Refusals


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["contrast_view.mask_ratio_audio=1"], "mask_ratio_audio=1.0 must be 0 or more and below 1"),
        (["contrast_view.mask_ratio_image=-0.1"], "mask_ratio_image=-0.1 must be 0 or more and below 1"),
        (
            ["contrast_view.mask_ratio_image=0.9"],
            "mask_ratio_image=0.9 must leave at least one of 4 patches",
        ),
        (["contrast_view.choice=top"], "choice=top needs contrast_view.own=true"),
        (
            ["contrast_view.choice=top", "contrast_view.own=true"],
            "choice=top needs a teacher, .* set teacher.momentum, such as 0.996, or contrast_view.choice=random",
        ),
        (
            [
                "contrast_view.choice=sampled",
                "contrast_view.own=true",
                "teacher.momentum=0.9",
                "model.global_tokens=none",
            ],
            "choice=sampled needs a global token, .* set model.global_tokens=contrastive, or",
        ),
        (
            [
                "contrast_view.choice=other-clip",
                "contrast_view.own=true",
                "teacher.momentum=0.9",
                "batch_size=1",
            ],
            "choice=other-clip needs a batch of two clips or more, and batch_size=1",
        ),
        (["contrast_view.choice=best"], "is not of type 'random' | 'top'"),
        (["teacher.momentum=1.5"], r"momentum=1.5 must lie in \[0, 1\]; none has no teacher"),
        (["teacher.distillation_weight=-1"], "distillation_weight=-1.0 is negative; 0 only logs"),
        (
            ["teacher.distillation_weight=1"],
            "distillation_weight=1.0 needs a teacher: set teacher.momentum, such as 0.996, or",
        ),
    ],
    ids=str,
)
def test_a_view_or_teacher_that_cannot_work_is_refused_with_the_way_out(
    assignments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(run_of(), assignments)
