"""Proves that the same weights give the outputs of upstream's own code, within 1e-5.

`golden/forward.json` holds what the unmodified classes of edsonroteia/cav-mae-sync and YuanGongND/cav-mae
(CPU, float32) computed at small widths. Weights, inputs and masking noise follow formulas, so no weights are
stored: each tensor's formula depends on its place among the sorted names, so a wrong name shifts them all.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoint import load_model
from cavsync.model.config import ModelConfig, cavmae_base, sync_base
from cavsync.model.official import official_state_dict
from cavsync.model.output import Output
from cavsync.model.positions import position_table

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "forward.json").read_text())
# The entries were made with the contrastive weight of Sync's training, also for CAV-MAE.
SMALL: dict[str, Any] = {"embed_dim": 48, "num_heads": 4, "decoder_dim": 32, "decoder_depth": 2}
SMALL |= {"decoder_num_heads": 4, "contrastive_weight": 0.1}
CONFIGS = {
    "sync_small_released_cfg_norm_pix": replace(sync_base(), **SMALL),
    "sync_small_released_cfg_no_norm_pix": replace(sync_base(), **SMALL, norm_pix=False),
    "sync_small_contrastive_heads": replace(sync_base(), **SMALL, contrastive_head_depth=2),
    "cavmae_small": replace(cavmae_base(), **SMALL),
}


def formula_weights(config: ModelConfig) -> dict[str, Tensor]:
    tensors = official_state_dict(CavMaeSync(config))
    return {
        name: tensors[name] if "pos_embed" in name else formula(name, place, tensors[name])
        for place, name in enumerate(sorted(tensors))
    }


def formula(name: str, place: int, like: Tensor) -> Tensor:
    i = torch.arange(like.numel(), dtype=torch.float64)
    x = torch.sin(0.7 * i + 0.3 * place + 0.11)
    if "norm" in name and name.endswith("weight"):
        x = 1 + 0.1 * x
    elif name.endswith("bias"):
        x = 0.05 * x
    elif name.endswith("weight") and like.ndim >= 2:
        fan = like.numel() / like.shape[0]
        x = x * (2 / fan) ** 0.5 * torch.cos(torch.remainder(0.013 * i * i, 6.283185307179586))
    else:
        x = 0.2 * x
    return x.float().reshape(like.shape)


def inputs(config: ModelConfig) -> tuple[Tensor, Tensor]:
    i = torch.arange(3 * config.audio_rows * 128, dtype=torch.float64)
    audio = torch.sin(0.0137 * i) + 0.5 * torch.sin(0.37 * i + 1)
    j = torch.arange(3 * 3 * 224 * 224, dtype=torch.float64)
    image = torch.cos(0.0091 * j) + 0.5 * torch.sin(0.53 * j + 2)
    return audio.float().reshape(3, config.audio_rows, 128), image.float().reshape(3, 3, 224, 224)


def noise(num_patches: int, which: int) -> Tensor:
    n, patch = torch.meshgrid(torch.arange(3), torch.arange(num_patches), indexing="ij")
    x = torch.sin((1000.0 * n + patch).double() * 12.9898 + which * 78.233) * 43758.5453
    return (x - x.floor()).float()


@pytest.fixture(scope="module", params=CONFIGS)
def entry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CavMaeSync]:
    """A published file, as upstream saves it, read back by `load_model`."""
    config = CONFIGS[request.param]
    path = tmp_path_factory.mktemp("official") / "cav_mae.pth"
    torch.save({f"module.{name}": tensor for name, tensor in formula_weights(config).items()}, path)
    asked = {"num_heads": 4, "decoder_num_heads": 4, "norm_pix": config.norm_pix, "contrastive_weight": 0.1}
    return request.param, load_model(path, **asked)


@pytest.fixture(scope="module")
def output(entry: tuple[str, CavMaeSync]) -> Output:
    _, model = entry
    noises = noise(model.config.num_audio_patches, 0), noise(model.config.num_image_patches, 1)
    with torch.no_grad():
        answer: Output = model(*inputs(model.config), *noises)
    return answer


def assert_matches(actual: Tensor, golden: dict[str, Any]) -> None:
    values = actual.detach().float().flatten()
    assert list(actual.shape) == golden["shape"]
    measured = {"first8": values[:8], "last4": values[-4:], "mean": values.mean(), "std": values.std()}
    for name in measured.keys() & golden.keys():
        expected = torch.tensor(golden[name], dtype=torch.float32)
        torch.testing.assert_close(measured[name], expected, atol=1e-5, rtol=0)


def test_configuration_is_read_from_the_shapes(entry: tuple[str, CavMaeSync]) -> None:
    name, model = entry
    assert model.config == CONFIGS[name]


def test_upstreams_layout_has_upstreams_number_of_parameters(entry: tuple[str, CavMaeSync]) -> None:
    name, model = entry
    assert sum(t.numel() for t in official_state_dict(model).values()) == GOLDEN[name]["n_params"]


def test_features_of_whole_inputs_match(entry: tuple[str, CavMaeSync]) -> None:
    name, model = entry
    audio, image = inputs(model.config)
    with torch.no_grad():
        a, v = model.encode_audio(audio), model.encode_image(image)
    ours = [a.patches.flatten(1, 2), v.patches.flatten(1, 2), a.global_token, v.global_token]
    golden = GOLDEN[name]["forward_feat"]
    for actual, expected in zip(ours, golden, strict=False):  # CAV-MAE has no global tokens
        assert_matches(actual, expected)


def test_masked_encoder_matches(entry: tuple[str, CavMaeSync], output: Output) -> None:
    name, _ = entry
    ours = {
        "joint_latent": output.latent,
        "mask_a": output.mask_audio.removed,
        "ids_restore_a": output.mask_audio.restore,
        "mask_v": output.mask_image.removed,
        "ids_restore_v": output.mask_image.restore,
        "tok_a": output.encoding_audio.patches,
        "tok_v": output.encoding_image.patches,
        "cls_a": output.encoding_audio.global_token,
        "cls_v": output.encoding_image.global_token,
    }
    for part, golden in GOLDEN[name]["forward_encoder"].items():
        assert_matches(ours[part], golden)


def test_losses_match(entry: tuple[str, CavMaeSync], output: Output) -> None:
    name, _ = entry
    ours = {
        "loss": output.loss,
        "loss_mae": output.reconstruction_audio + output.reconstruction_image,
        "loss_mae_a": output.reconstruction_audio,
        "loss_mae_v": output.reconstruction_image,
        "loss_c": 0.1 * output.contrastive,
    }
    measured = {part: loss.item() for part, loss in ours.items()}
    assert measured == pytest.approx(GOLDEN[name]["forward_losses"], abs=1e-5)
    assert output.contrastive_accuracy.item() == pytest.approx(GOLDEN[name]["c_acc"])


def test_position_codes_match() -> None:
    table = position_table(48, (8, 26))[0]
    for name, golden in GOLDEN["pos_embed_48d_8x26"].items():
        row = table[int(name.removeprefix("row"))]
        torch.testing.assert_close(row, torch.tensor(golden), atol=2e-6, rtol=0)
