"""Proves that a configuration checks its values, that its errors name the way out, and the sizes of the presets."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.config import ModelConfig, cavmae_base, sync_base, tiny


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": "768"}, "embed_dim='768' must be of type int"),
        ({"num_registers": True}, "num_registers=True must be of type int"),
        ({"audio_rows": 416.0}, "audio_rows=416.0 must be of type int"),
        ({"norm_pix": "no"}, "norm_pix='no' must be of type bool"),
        ({"temperature": float("nan")}, "temperature=nan must be above 0"),
        ({"global_tokens": "two"}, "global_tokens='two' must be one of none, contrastive, per-task"),
        (
            {"audio_mask_mode": "tf"},
            "audio_mask_mode='tf' must be one of unstructured, time, freq, time-freq",
        ),
        ({"contrastive_direction": "both"}, "contrastive_direction='both' must be one of one-way, two-way"),
        ({"joint_depth": 0}, "joint_depth=0 must be 1 or more"),
        ({"num_registers": -1}, "num_registers=-1 must be 0 or more"),
        ({"audio_rows": 100}, "audio_rows=100 must be a multiple of patch_size=16, such as 96"),
        ({"image_size": 225}, "image_size=225 must be a multiple of patch_size=16, such as 224"),
        ({"num_heads": 5}, "embed_dim=768 must divide by num_heads=5"),
        ({"decoder_num_heads": 7}, "decoder_dim=512 must divide by decoder_num_heads=7"),
        ({"embed_dim": 6, "num_heads": 3}, "embed_dim=6 must be a multiple of 4"),
        ({"mask_ratio_audio": 1.0}, "mask_ratio_audio=1.0 must be .* leave at least one of 208 patches"),
        ({"mask_ratio_image": 0.999}, "mask_ratio_image=0.999 must be .* leave at least one of 196 patches"),
        ({"contrastive_weight": -0.1}, "contrastive_weight=-0.1 must be 0 or more"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        (
            {"global_local_losses": True, "global_tokens": "none"},
            "global_local_losses=True needs global_tokens",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_way_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        tiny().embed_dim = 1  # type: ignore[misc]


@pytest.mark.parametrize(("preset", "parameters"), [(sync_base, 190_660_864), (cavmae_base, 191_036_160)])
def test_a_released_preset_has_the_released_number_of_parameters(preset: Any, parameters: int) -> None:
    with torch.device("meta"):
        model = CavMaeSync(preset())
    assert sum(tensor.numel() for tensor in official_state_dict(model).values()) == parameters


def test_the_layouts_have_the_released_number_of_tensors() -> None:
    with torch.device("meta"):
        sync, cavmae = CavMaeSync(sync_base()), CavMaeSync(cavmae_base())
        heads = CavMaeSync(replace(cavmae_base(), num_registers=4, contrastive_head_depth=2))
    assert [len(official_state_dict(model)) for model in (sync, cavmae, heads)] == [650, 647, 728]


def test_of_sync_only_the_unused_norms_are_left_out() -> None:
    with torch.device("meta"):
        model = CavMaeSync(sync_base())
    left_out = official_state_dict(model).keys() - model.state_dict().keys()
    # Two norms twice, weight and bias, in 11 + 11 encoder blocks and 8 decoder blocks.
    assert len(left_out) == 8 * 30
    assert not any(name.startswith("blocks_u") for name in left_out)


def test_the_grids_are_those_of_the_released_model() -> None:
    assert (sync_base().audio_grid, sync_base().image_grid) == ((8, 26), (14, 14))
    assert (tiny().num_audio_patches, tiny().num_image_patches) == (48, 64)


def test_a_configuration_needs_no_torch() -> None:
    code = "import sys, cavsync.model.config; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
