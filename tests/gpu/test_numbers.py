"""Proves that a device computes the model's numbers: forward, losses, gradients, updates, in every precision and form."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gpu.devices import full_float32, on_each_device
from support.rank_work import MODELS, run_of, some_batch
from support.reference.golden_formulas import assert_matches, formula_weights, inputs, noise
from torch import Tensor, nn

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.config import sync_base
from cavsync.train.data.images import normalise_images
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.optimizer import build_optimizer
from cavsync.train.engine.step import OutOfMemoryError, TrainStep
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.metrics import PretrainLosses
from cavsync.train.pretrain.objective import INPUTS, PretrainObjective, pretrain_step

# A compiler may warn of what it would like better.
pytestmark = pytest.mark.filterwarnings("default")
GOLDEN = json.loads((Path(__file__).parents[1] / "support" / "golden" / "forward.json").read_text())
# Of a loss, and of the length of all gradients: rounding to a mantissa of 24, 11 and 8 bits, grown by some layers. The
# contrastive loss, which is not small here, divides cosines by .05 and so multiplies what their vectors are off by 20.
BOUNDS = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
GRADIENT_BOUNDS = {"float32": 1e-4, "float16": 4e-2, "bfloat16": 0.25}


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    with full_float32():
        yield


def new_model(config: PretrainConfig, device: torch.device) -> CavMaeSync:
    torch.manual_seed(0)
    return CavMaeSync(config.model).to(device).train()


def losses_and_gradients(config: PretrainConfig, device: torch.device) -> tuple[dict[str, float], Tensor]:
    """The losses of one backward, and all gradients as one float64 vector."""
    model = new_model(config, device)
    objective = PretrainObjective(config, model, device, Ranks())
    losses = objective.backward(some_batch(config), lambda loss: loss)
    return {name: value.item() for name, value in losses.items()}, gradients_of(model)


def gradients_of(model: nn.Module) -> Tensor:
    parts = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.cat([part.detach().double().cpu().flatten() for part in parts])


def exact(config: PretrainConfig) -> tuple[dict[str, float], Tensor]:
    """The same in float64 on the CPU."""
    model, batch = new_model(config, torch.device("cpu")).double(), some_batch(config)
    audio, image, *noises = (batch[name] for name in INPUTS)
    out = model(audio.double(), normalise_images(image).double(), *noises)
    out.loss.backward()
    losses = {"loss": out.loss, "contrastive": out.contrastive}
    losses |= {
        "reconstruction_audio": out.reconstruction_audio,
        "reconstruction_image": out.reconstruction_image,
    }
    return {name: value.item() for name, value in losses.items()}, gradients_of(model)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@on_each_device
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_forward_losses_and_gradients_are_those_of_float64(
    model: dict[str, Any], device: torch.device
) -> None:
    config = run_of(**model)
    losses, gradients = losses_and_gradients(config, device)
    expected, expected_gradients = exact(config)
    assert {name: losses[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert distance(gradients, expected_gradients) < BOUNDS["float32"]


@on_each_device
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_stays_within_its_bounds(precision: Any, device: torch.device) -> None:
    config = run_of(encoder_depth=2)
    losses, gradients = losses_and_gradients(replace(config, precision=precision), device)
    expected, expected_gradients = exact(config)
    assert losses["loss"] == pytest.approx(expected["loss"], rel=BOUNDS[precision])
    assert distance(gradients, expected_gradients) < GRADIENT_BOUNDS[precision]


@on_each_device
def test_the_published_layout_has_upstreams_outputs(device: torch.device, tmp_path: Path) -> None:
    small = replace(
        sync_base(), embed_dim=48, num_heads=4, decoder_dim=32, decoder_depth=2, decoder_num_heads=4
    )
    path = tmp_path / "cav_mae.pth"
    torch.save({f"module.{name}": one for name, one in formula_weights(CavMaeSync(small)).items()}, path)
    model = load_model(path, num_heads=4, decoder_num_heads=4, norm_pix=True, contrastive_weight=0.1).to(
        device
    )
    noises = noise(model.config.num_audio_patches, 0), noise(model.config.num_image_patches, 1)
    given = [one.to(device) for one in (*inputs(model.config), *noises)]
    with torch.no_grad():
        output = model(*given)
    golden = GOLDEN["sync_small_released_cfg_norm_pix"]
    ours = {"joint_latent": output.latent, "tok_a": output.encoding_audio.patches}
    ours |= {"cls_a": output.encoding_audio.global_token, "cls_v": output.encoding_image.global_token}
    for name, tensor in ours.items():
        assert_matches(tensor, golden["forward_encoder"][name], atol=1e-4)
    assert output.loss.item() == pytest.approx(golden["forward_losses"]["loss"], abs=1e-4)


@pytest.mark.timeout(150)
@on_each_device
def test_a_compiled_model_computes_what_it_computes_without(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type == "cpu":  # the compiler's front end alone: generating code takes minutes there
        monkeypatch.setattr(CavMaeSync, "compile", partialmethod(nn.Module.compile, backend="eager"))
    config = replace(run_of(), compile=False)
    losses, gradients = losses_and_gradients(config, device)
    compiled_losses, compiled_gradients = losses_and_gradients(replace(config, compile=True), device)
    assert compiled_losses["loss"] == pytest.approx(losses["loss"], rel=BOUNDS["float32"])
    assert distance(compiled_gradients, gradients) < GRADIENT_BOUNDS["float32"]


@pytest.mark.timeout(150)
@on_each_device
def test_steps_in_cuda_graphs_are_those_without(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, begun = [], []
    if device.type == "cpu":  # which has no graphs: only that they are asked for, and told of each step
        monkeypatch.setattr(CavMaeSync, "compile", lambda model, **given: options.append(given))
        monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    losses = []
    for choice in (False, "reduce-overhead"):
        config = replace(run_of(), compile=choice)
        step, batch = step_of(config, device), some_batch(config)
        losses.append([step(batch, number, 1e-3).read().loss for number in (1, 2, 3)])
    plain, in_graphs = losses
    assert in_graphs == pytest.approx(plain, rel=1e-3)
    assert plain[0] != plain[2]
    if device.type == "cpu":
        assert options == [{"mode": "reduce-overhead"}]
        assert len(begun) == 3


@on_each_device
@pytest.mark.parametrize(
    "changes",
    [{"activation_checkpointing": True}, {"micro_batch": 2}, {"micro_batch": 4, "precision": "bfloat16"}],
    ids=str,
)
def test_parts_and_recomputed_activations_give_the_whole_gradient(
    changes: dict[str, Any], device: torch.device
) -> None:
    config = replace(run_of(), precision=changes.get("precision", "float32"))
    losses, gradients = losses_and_gradients(config, device)
    other_losses, other_gradients = losses_and_gradients(replace(config, **changes), device)
    assert other_losses["loss"] == pytest.approx(losses["loss"], rel=BOUNDS[config.precision])
    assert distance(other_gradients, gradients) < GRADIENT_BOUNDS[config.precision]


def step_of(config: PretrainConfig, device: torch.device) -> TrainStep[PretrainLosses]:
    torch.manual_seed(0)
    return pretrain_step(config, CavMaeSync(config.model), device)


@on_each_device
def test_a_scaler_skips_a_step_that_overflows_and_lowers_its_scale(device: torch.device) -> None:
    config = replace(run_of(), precision="float16")
    step, batch = step_of(config, device), some_batch(config)
    step.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**40)
    before = copy.deepcopy(step.model.state_dict())
    step(batch, 1, 1e-2)
    step.require_finite()  # a gradient that overflows is no error
    assert step.scaler.get_scale() == 2.0**39
    assert all(torch.equal(one, before[name]) for name, one in step.model.state_dict().items())
    step.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**8)
    step(batch, 2, 1e-2)
    assert not all(torch.equal(one, before[name]) for name, one in step.model.state_dict().items())


@on_each_device
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_fused_update_is_that_of_one_operation_after_another(name: Any, device: torch.device) -> None:
    config = replace(run_of().optimizer, name=name, weight_decay=0.1)
    updated = []
    for is_fused in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(7, 5).to(device)
        optimizer = build_optimizer(config, model)
        for group in optimizer.param_groups:
            assert group["fused"]
            group.update(fused=is_fused, foreach=False)
        for number in range(3):
            optimizer.zero_grad()
            model(torch.full((2, 7), 0.1 * number, device=device)).square().sum().backward()
            optimizer.step()
        updated.append(model.weight.detach().cpu())
    torch.testing.assert_close(*updated, atol=1e-6, rtol=1e-5)


@on_each_device
def test_a_step_that_does_not_fit_says_what_to_set(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Tensor) -> None:
        if device.type == "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        torch.empty(2**45, device=device)

    monkeypatch.setattr(CavMaeSync, "forward", too_large)
    config = run_of()
    step = step_of(config, device)
    with pytest.raises(
        OutOfMemoryError, match=r"Step 1 does not fit into the memory of .*batch_size=8.*micro_batch=4 "
    ):
        step(some_batch(config), 1, 1e-3)
