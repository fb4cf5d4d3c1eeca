"""Initial weights of pretraining: those of another audio-visual model, or of a ViT that was trained on images."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import check_file
from cavsync.model.checkpoints.files.checkpoint_file import CheckpointFile, read_checkpoint_file
from cavsync.model.checkpoints.tensors import misshapen, summary
from cavsync.model.checkpoints.timm_weights import IMAGENET_MAE, TIMM_PREFIX, TimmWeights
from cavsync.model.config import ModelConfig
from cavsync.model.errors import CheckpointError
from cavsync.model.patches import resized_table

# Where the configuration has another number of these than the source, they are drawn at random.
COUNTED_TOKENS = "register_tokens"


@dataclass(frozen=True)
class InitialWeightsReport:
    """The origin of each tensor of a new model, by name."""

    source: str
    copied: tuple[str, ...]
    recomputed: tuple[str, ...]
    """Position tables of another grid than the source's."""
    random: tuple[str, ...]
    """Tensors that the source does not have."""
    unused: tuple[str, ...]
    """Tensors of the source that the model does not have."""
    note: str = ""

    def __str__(self) -> str:
        parts = [
            f"{len(self.copied)} tensors copied from {self.source}",
            summary("position tables recomputed", self.recomputed),
            summary("random", self.random),
            summary("of the source unused", self.unused),
            self.note,
        ]
        return "; ".join(filter(None, parts))


@dataclass(frozen=True)
class _Source:
    """The tensors of a source, with the names and sizes of the new model."""

    name: str
    tensors: dict[str, Tensor]
    recomputed: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()
    note: str = ""


def load_initial_weights(
    source: Path | str, config: ModelConfig, seed: int = 0
) -> tuple[CavMaeSync, InitialWeightsReport]:
    """A new model of `config` with the weights of `source`, and the origin of each tensor.

    `source` is a pretraining checkpoint (ours, Sync's or CAV-MAE's, of any audio length), a file with a ViT in
    timm's or MAE's layout, or `timm:` and the name of a ViT that timm downloads, such as
    `timm:vit_base_patch16_224.mae`. Tensors that the source does not have are drawn from `seed`; the global random
    state does not change. Raises CheckpointError where a tensor has another shape than the model's.
    """
    read = _read(str(source), config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = CavMaeSync(config)
    own = model.state_dict()
    tensors = {name: tensor for name, tensor in read.tensors.items() if name in own}
    if COUNTED_TOKENS in tensors and tensors[COUNTED_TOKENS].shape != own[COUNTED_TOKENS].shape:
        del tensors[COUNTED_TOKENS]
    _require_sizes(read.name, tensors, own)
    model.load_state_dict(own | tensors)
    return model, _report(read, tensors, own)


def fetch_initial_weights(source: Path | str, config: ModelConfig, announce: Callable[[str], None]) -> None:
    """Makes sure that the weights of `source` are on this machine, where timm publishes them.

    `announce` gets a text before anything is fetched. Raises CheckpointError where they cannot be fetched, or would not
    fit a model of `config`.
    """
    if not str(source).startswith(TIMM_PREFIX):
        return
    weights = TimmWeights.of(str(source))
    if weights.kept() is None:
        with torch.device("meta"):
            own = CavMaeSync(config).state_dict()
        shapes = _filled(str(source), weights.shapes(), config)
        # Position tables of another grid are recomputed.
        sized = {name: tensor for name, tensor in shapes.items() if "pos_embed" not in name}
        _require_sizes(str(source), sized, own)
        weights.fetch(announce)


def _read(source: str, config: ModelConfig) -> _Source:
    if source.startswith(TIMM_PREFIX):
        tensors, revision = TimmWeights.of(source).tensors()
        return _from_vit(f"{source} (revision {revision[:12]})", tensors, config)
    file = read_checkpoint_file(Path(source))
    if file.is_official and "blocks.0.attn.qkv.weight" in file.tensors:
        return _from_vit(source, file.tensors, config)
    return _from_cavmae(file, config)


def _from_cavmae(file: CheckpointFile, config: ModelConfig) -> _Source:
    """The tensors of a CAV-MAE or CAV-MAE Sync, with position tables for the sizes of `config`."""
    sizes = {"audio_rows": config.audio_rows, "image_size": config.image_size}
    heads = {"num_heads": config.num_heads, "decoder_num_heads": config.decoder_num_heads}
    checkpoint = check_file(file, **sizes, **(heads if file.model_config is None else {}))
    model = checkpoint.build()
    if not isinstance(model, CavMaeSync):
        raise CheckpointError(f"{file.path} is a classifier; give a pretrained model as initial weights")
    for name, wanted in heads.items():
        if getattr(model.config, name) != wanted:
            raise CheckpointError(
                f"{file.path} has {name}={getattr(model.config, name)}, and the model to train has {name}={wanted}"
            )
    return _Source(str(file.path), model.state_dict(), frozenset(checkpoint.resized_positions()))


def _from_vit(name: str, vit: Mapping[str, Tensor], config: ModelConfig) -> _Source:
    """The tensors of an image ViT for both modalities, as CAV-MAE adapts ImageNet-MAE.

    Its first blocks go to both encoders and its next ones to the joint blocks; the audio filters are the sum of the
    colour filters. timm publishes MAE's encoder only; a file that has MAE's decoder fills the decoder too.
    """
    try:
        tensors = _filled(name, vit, config)
        unused = tuple(one for one, tensor in vit.items() if not _targets(one, tensor, config))
        resized = _resize_image_positions(tensors, config)
    except (IndexError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{name} holds no ViT that fits this model: {error}") from error
    note = "ImageNet ViTs normalise with eps 1e-6, this model with 1e-5"
    return _Source(name, tensors, resized, unused, note)


def _filled(source: str, vit: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The model's tensors that those of the ViT `source` fill; position tables have the grid of the ViT."""
    if "blocks.0.attn.qkv.weight" not in vit:
        raise CheckpointError(f"{source} is no plain ViT; CAV-MAE and CAV-MAE Sync take {IMAGENET_MAE}")
    tensors: dict[str, Tensor] = {}
    for name, tensor in vit.items():
        tensors |= _targets(name, tensor, config)
    return tensors


def _require_sizes(name: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """CheckpointError where one of `tensors`, which fill the model's `own`, has another shape."""
    if other := misshapen(tensors, own):
        raise CheckpointError(
            f"{name} is of another size than the model to train: {summary('misshapen', other)}. "
            "Set the model's sizes to those of the source, or start from random weights with initial_weights=none."
        )


def _targets(name: str, tensor: Tensor, config: ModelConfig) -> dict[str, Tensor]:
    """The model's tensors that one tensor of a ViT fills; none for its class token and its classifier."""
    if block := re.fullmatch(r"blocks\.(\d+)\.(.+)", name):
        return _block_targets(int(block[1]), block[2], tensor, config)
    if name.startswith("patch_embed."):
        audio_part = tensor.sum(dim=1, keepdim=True) if name.endswith("weight") else tensor
        return {name.replace("embed", "embed_v"): tensor, name.replace("embed", "embed_a"): audio_part}
    if name.startswith("norm."):
        return {name.replace("norm", norm): tensor for norm in ("norm", "norm_a", "norm_v")}
    if name in ("pos_embed", "decoder_pos_embed"):
        return {f"{name}_v": tensor[:, 1:]}  # without that of the class token
    if name.startswith("decoder_pred."):
        # CAV-MAE gives no reason: it predicts audio with the first of the rows that predict images.
        audio_part = tensor[: config.patch_size**2]
        return {name.replace("pred", "pred_v"): tensor, name.replace("pred", "pred_a"): audio_part}
    return {name: tensor} if name.startswith(("decoder_", "mask_token")) else {}


def _block_targets(number: int, rest: str, tensor: Tensor, config: ModelConfig) -> dict[str, Tensor]:
    if number < config.encoder_depth:
        return {f"blocks_{modality}.{number}.{rest}": tensor for modality in "av"}
    if number >= config.encoder_depth + config.joint_depth:
        return {}
    stem = f"blocks_u.{number - config.encoder_depth}."
    if not rest.startswith("norm"):
        return {stem + rest: tensor}
    norm, kind = rest.split(".")
    return {f"{stem}{norm}{ending}.{kind}": tensor for ending in ("", "_a", "_v")}


def _resize_image_positions(tensors: dict[str, Tensor], config: ModelConfig) -> frozenset[str]:
    """Gives position tables of another image size the grid of `config`; returns their names."""
    resized = set()
    for name in ("pos_embed_v", "decoder_pos_embed_v"):
        if name in tensors and tensors[name].shape[1] != config.num_image_patches:
            side = round(tensors[name].shape[1] ** 0.5)
            tensors[name] = resized_table(name, tensors[name], (side, side), config.image_grid)
            resized.add(name)
    return frozenset(resized)


def _report(read: _Source, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> InitialWeightsReport:
    # Position tables are computed and never random: those without a source count as recomputed.
    tables = {name for name in own if "pos_embed" in name and name not in tensors}
    recomputed = tables | (read.recomputed & tensors.keys())
    return InitialWeightsReport(
        source=read.name,
        copied=tuple(name for name in own if name in tensors and name not in recomputed),
        recomputed=tuple(name for name in own if name in recomputed),
        random=tuple(name for name in own if name not in tensors and name not in recomputed),
        unused=(*read.unused, *(name for name in read.tensors if name not in tensors)),
        note=read.note,
    )
