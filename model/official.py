"""The layout of the published `.pth` files of CAV-MAE and CAV-MAE Sync: flat names, and no configuration."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import cavmae_base, sync_base

# What a configuration is read from, with the number of axes of each.
TELLING = {
    "patch_embed_a.proj.weight": 4,
    "pos_embed_a": 3,
    "pos_embed_v": 3,
    "blocks_a.0.mlp.fc1.weight": 2,
    "decoder_embed.weight": 2,
}
# Upstream gives every block the norms `_a` and `_v`, and uses them in the joint blocks alone.
PLAIN_NORM = re.compile(r"(?!blocks_u\.)(.+\.\d+\.norm[12])\.(weight|bias)")


def official_state_dict(model: CavMaeSync) -> dict[str, Tensor]:
    """The model as upstream would save it: its own tensors, and the norms that nothing uses."""
    tensors = dict(model.state_dict())
    for name, tensor in model.state_dict().items():
        if norm := PLAIN_NORM.fullmatch(name):
            stem, kind = norm.groups()
            fresh = torch.ones_like if kind == "weight" else torch.zeros_like
            tensors |= {f"{stem}_{modality}.{kind}": fresh(tensor) for modality in "av"}
    return tensors


def is_finetuned(names: Mapping[str, Any]) -> bool:
    """Whether these are the names of a published classifier."""
    return any(name.startswith(("mlp_head.", "classifier_")) for name in names)


def infer_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of the `ModelConfig` that these shapes belong to; what shapes do not tell is as released.

    Raises ValueError, naming the tensors, where the shapes are not those of any CAV-MAE.
    """
    unread = [name for name, axes in TELLING.items() if not _has_axes(tensors.get(name), axes)]
    if unread:
        raise ValueError(f"not a CAV-MAE: {', '.join(unread)} missing or of the wrong shape")
    released = sync_base() if {"cls_token_a", "register_tokens"} & tensors.keys() else cavmae_base()
    return asdict(released) | _sizes(tensors, released.num_mels) | _depths(tensors) | _tokens(tensors)


def _has_axes(tensor: Tensor | None, axes: int) -> bool:
    return tensor is not None and tensor.ndim == axes and tensor.numel() > 0


def _sizes(tensors: Mapping[str, Tensor], num_mels: int) -> dict[str, Any]:
    patch = tensors["patch_embed_a.proj.weight"].shape[-1]
    width = tensors["patch_embed_a.proj.weight"].shape[0]
    return {
        "patch_size": patch,
        # Tables that are no whole grid give a size whose own table differs, which loading reports.
        "audio_rows": tensors["pos_embed_a"].shape[1] // max(1, num_mels // patch) * patch,
        "image_size": isqrt(tensors["pos_embed_v"].shape[1]) * patch,
        "embed_dim": width,
        "mlp_ratio": tensors["blocks_a.0.mlp.fc1.weight"].shape[0] / width,
        "decoder_dim": tensors["decoder_embed.weight"].shape[0],
    }


def _depths(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    stacks = {
        "encoder_depth": "blocks_a",
        "joint_depth": "blocks_u",
        "contrastive_head_depth": "constrative_head_audio",
        "decoder_depth": "decoder_blocks",
    }
    return {field: _depth(tensors, stack) for field, stack in stacks.items()}


def _depth(tensors: Mapping[str, Tensor], stack: str) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith(f"{stack}.")})


def _tokens(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    registers = tensors["register_tokens"].shape[0] // 2 if "register_tokens" in tensors else 0
    if "cls_token_a" not in tensors:
        return {"num_registers": registers, "global_tokens": "none"}
    own = "cls_token_reconstruction_a" in tensors
    return {"num_registers": registers, "global_tokens": "per-task" if own else "contrastive"}
