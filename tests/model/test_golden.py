"""Proves that the same weights give the outputs of upstream's own code, within 1e-5.

`golden/forward.json` holds what the unmodified classes of edsonroteia/cav-mae-sync and YuanGongND/cav-mae
(CPU, float32) computed at small widths. Weights, inputs and masking noise follow formulas, so no weights are
stored: each tensor's formula depends on its index among the sorted names, so a wrong name shifts them all.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.reference.golden_formulas import assert_matches, formula_weights, inputs, noise

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.config import cavmae_base, sync_base
from cavsync.model.output import Output
from cavsync.model.patches import position_table

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "support" / "golden" / "forward.json").read_text()
)
# The entries were made with the contrastive weight of Sync's training, also for CAV-MAE.
SMALL: dict[str, Any] = {"embed_dim": 48, "num_heads": 4, "decoder_dim": 32, "decoder_depth": 2}
SMALL |= {"decoder_num_heads": 4, "contrastive_weight": 0.1}
CONFIGS = {
    "sync_small_released_cfg_norm_pix": replace(sync_base(), **SMALL),
    "sync_small_released_cfg_no_norm_pix": replace(sync_base(), **SMALL, norm_pix=False),
    "sync_small_contrastive_heads": replace(sync_base(), **SMALL, contrastive_head_depth=2),
    "cavmae_small": replace(cavmae_base(), **SMALL),
}


@pytest.fixture(scope="module", params=CONFIGS)
def entry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CavMaeSync]:
    """A published file, as upstream saves it, read back by `load_model`."""
    config = CONFIGS[request.param]
    path = tmp_path_factory.mktemp("official") / "cav_mae.pth"
    torch.save(
        {f"module.{name}": tensor for name, tensor in formula_weights(CavMaeSync(config)).items()}, path
    )
    overrides = {
        "num_heads": 4,
        "decoder_num_heads": 4,
        "norm_pix": config.norm_pix,
        "contrastive_weight": 0.1,
    }
    return request.param, load_model(path, **overrides)


@pytest.fixture(scope="module")
def output(entry: tuple[str, CavMaeSync]) -> Output:
    _, model = entry
    noises = noise(model.config.num_audio_patches, 0), noise(model.config.num_image_patches, 1)
    with torch.no_grad():
        output: Output = model(*inputs(model.config), *noises)
    return output


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
