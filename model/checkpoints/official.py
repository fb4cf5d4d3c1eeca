"""The layout of the published `.pth` files of CAV-MAE and CAV-MAE Sync: flat names, and no configuration."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import (
    Modality,
    attention_probe,
    cavmae_finetuning,
    sync_finetuning,
)
from cavsync.model.config import cavmae_base, sync_base
from cavsync.model.encoder import Encoder
from cavsync.model.errors import CheckpointError

# The tensors that a configuration is inferred from, with the number of axes of each.
CONFIG_SOURCES = {
    "patch_embed_a.proj.weight": 4,
    "pos_embed_a": 3,
    "pos_embed_v": 3,
    "blocks_a.0.mlp.fc1.weight": 2,
}
# Upstream gives every block the norms `_a` and `_v`, and uses them only in the joint blocks.
PLAIN_NORM = re.compile(r"(?!blocks_u\.)(.+\.\d+\.norm[12])\.(weight|bias)")
# The start of our names, and of upstream's, for the parts of each head that upstream has.
HEAD_NAMES = {
    "mlp": {"head.": "mlp_head."},
    "attention": {
        "head.token": "cls_cls_token",
        "head.blocks.": "classifier_layers.",
        "head.norm.": "classifier_norm.",
        "head.linear.": "classifier_head.",
    },
}
# The names of the blocks that each depth counts.
ENCODER_STACKS = {
    "encoder_depth": "blocks_a",
    "joint_depth": "blocks_u",
    "contrastive_head_depth": "constrative_head_audio",
}
DECODER_STACKS = {"decoder_depth": "decoder_blocks"}
# Tensors that only Sync has. Its classifiers may have none of them; CAV-MAE's read 10.24 s of audio, which is published of no
# classifier of Sync.
SYNC_TOKENS = {"cls_token_a", "register_tokens"}
CAVMAE_AUDIO_ROWS = 1024


def official_state_dict(model: Encoder) -> dict[str, Tensor]:
    """The model's tensors in upstream's layout, which adds the unused norms."""
    state = model.state_dict()
    tensors = {official: state[name] for name, official in official_names(model).items()}
    for name, tensor in list(tensors.items()):
        if norm := PLAIN_NORM.fullmatch(name):
            stem, kind = norm.groups()
            initial = torch.ones_like if kind == "weight" else torch.zeros_like
            tensors |= {f"{stem}_{modality}.{kind}": initial(tensor) for modality in "av"}
    return tensors


def official_names(model: Encoder) -> dict[str, str]:
    """Upstream's name of each of the model's tensors; only those of a head differ."""
    names = {name: name for name in model.state_dict()}
    if not isinstance(model, CavMaeClassifier):
        return names
    head = model.classifier.head
    if head not in HEAD_NAMES:
        raise CheckpointError(f"upstream has no {head} head; it has {' and '.join(HEAD_NAMES)}")
    for ours, theirs in HEAD_NAMES[head].items():
        names = {name: official.replace(ours, theirs, 1) for name, official in names.items()}
    return names


def is_finetuned(names: Mapping[str, Any]) -> bool:
    """Whether these are the names of a published classifier."""
    return any(name.startswith(("mlp_head.", "classifier_")) for name in names)


def infer_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of the `ModelConfig` that has these shapes; fields that shapes do not determine are as released.

    Raises CheckpointError, with the names of the tensors, where the shapes are not those of any CAV-MAE.
    """
    sources = CONFIG_SOURCES if is_finetuned(tensors) else CONFIG_SOURCES | {"decoder_embed.weight": 2}
    _require_axes(tensors, sources)
    released = sync_base() if SYNC_TOKENS & tensors.keys() else cavmae_base()
    fields = asdict(released) | _sizes(tensors, released.num_mels) | _tokens(tensors)
    fields |= _depths(tensors, ENCODER_STACKS)
    if not is_finetuned(tensors):
        fields |= {"decoder_dim": tensors["decoder_embed.weight"].shape[0]} | _depths(tensors, DECODER_STACKS)
    return fields


def infer_classifier_fields(tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the `ClassifierConfig` of a published classifier, completed by `overrides`.

    The modality, which upstream chooses by a `mode` at each call, is both unless it is overridden.
    """
    modality: Modality | None = overrides.get("modality")
    if "mlp_head.1.weight" in tensors:
        _require_axes(tensors, {"mlp_head.1.weight": 2})
        recipe = sync_finetuning if SYNC_TOKENS & tensors.keys() else cavmae_finetuning
        if modality in ("audio", "image") and "features" not in overrides:
            _require_known_recipe(tensors, modality)
        return asdict(recipe(tensors["mlp_head.1.weight"].shape[0], modality or "both"))
    _require_axes(tensors, {"classifier_head.weight": 2})
    num_classes, width = tensors["classifier_head.weight"].shape
    if width != tensors["patch_embed_a.proj.weight"].shape[0]:
        modality = "both"
    elif modality is None:
        raise CheckpointError('its head takes one modality, audio or image: add modality="audio" or "image"')
    return asdict(attention_probe(num_classes, modality)) | {
        "attention_depth": _depth(tensors, "classifier_layers")
    }


def _require_known_recipe(tensors: Mapping[str, Tensor], modality: Modality) -> None:
    """CheckpointError for a classifier of one modality that both CAV-MAE and Sync may have made, with other features."""
    rows = _sizes(tensors, cavmae_base().num_mels)["audio_rows"]
    if SYNC_TOKENS & tensors.keys() or rows == CAVMAE_AUDIO_ROWS:
        return
    raise CheckpointError(
        f"it has no learned tokens and takes {rows} rows of audio, so CAV-MAE or CAV-MAE Sync may have made it, which take other "
        f'features: add features="{cavmae_finetuning(1, modality).features}" if the code of CAV-MAE trained it, '
        f'features="{sync_finetuning(1, modality).features}" if that of Sync did'
    )


def _require_axes(tensors: Mapping[str, Tensor], sources: Mapping[str, int]) -> None:
    wrong = [name for name, axes in sources.items() if not _has_axes(tensors.get(name), axes)]
    if wrong:
        raise CheckpointError(f"not a CAV-MAE: {', '.join(wrong)} missing or of the wrong shape")


def _has_axes(tensor: Tensor | None, axes: int) -> bool:
    return tensor is not None and tensor.ndim == axes and tensor.numel() > 0


def _sizes(tensors: Mapping[str, Tensor], num_mels: int) -> dict[str, Any]:
    patch = tensors["patch_embed_a.proj.weight"].shape[-1]
    width = tensors["patch_embed_a.proj.weight"].shape[0]
    return {
        "patch_size": patch,
        # A table that is no whole grid gives a size whose table has another shape, which loading reports.
        "audio_rows": tensors["pos_embed_a"].shape[1] // max(1, num_mels // patch) * patch,
        "image_size": isqrt(tensors["pos_embed_v"].shape[1]) * patch,
        "embed_dim": width,
        "mlp_ratio": tensors["blocks_a.0.mlp.fc1.weight"].shape[0] / width,
    }


def _depths(tensors: Mapping[str, Tensor], stacks: Mapping[str, str]) -> dict[str, int]:
    return {field: _depth(tensors, stack) for field, stack in stacks.items()}


def _depth(tensors: Mapping[str, Tensor], stack: str) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith(f"{stack}.")})


def _tokens(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    registers = tensors["register_tokens"].shape[0] // 2 if "register_tokens" in tensors else 0
    if "cls_token_a" not in tensors:
        return {"num_registers": registers, "global_tokens": "none"}
    global_tokens = "per-task" if "cls_token_reconstruction_a" in tensors else "contrastive"
    return {"num_registers": registers, "global_tokens": global_tokens}
