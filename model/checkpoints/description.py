"""What a checkpoint is, in words and numbers, for people who were handed a file."""

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from cavsync.model.checkpoints.checkpoint import Blueprint, Checkpoint
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.config import ModelConfig, cavmae_base, sync_base
from cavsync.model.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Description:
    """One checkpoint; counts of parameters include the fixed position tables, as upstream's do."""

    path: str
    kind: str
    """Such as "CAV-MAE Sync, pretrained" or "CAV-MAE, classifier of 309 classes"."""
    layout: str
    num_tensors: int
    num_parameters: int
    """In the file."""
    num_official_parameters: int | None
    """In upstream's layout, which carries norms that nothing uses; None where upstream has no such model."""
    num_released_parameters: int | None
    """In upstream's layout at the released sizes."""
    model_config: dict[str, Any]
    classifier_config: dict[str, Any] | None
    training: dict[str, Any] | None
    """How it was trained, where the file says."""


def describe_checkpoint(checkpoint: Checkpoint) -> Description:
    """The file as it is; overrides of sizes are not applied."""
    stored, blueprint = checkpoint.stored, checkpoint.filed
    return Description(
        path=str(stored.path),
        kind=_kind(blueprint),
        layout="official" if stored.is_official else "cavsync",
        num_tensors=len(stored.tensors),
        num_parameters=sum(tensor.numel() for tensor in stored.tensors.values()),
        num_official_parameters=_official_parameters(blueprint),
        num_released_parameters=_official_parameters(replace(blueprint, model=_released(blueprint.model))),
        model_config=asdict(blueprint.model),
        classifier_config=asdict(blueprint.classifier) if blueprint.classifier else None,
        training=stored.training,
    )


def _kind(blueprint: Blueprint) -> str:
    name = "CAV-MAE Sync" if _is_sync(blueprint.model) else "CAV-MAE"
    if blueprint.classifier is None:
        return f"{name}, pretrained"
    return f"{name}, classifier of {blueprint.classifier.num_classes} classes"


def _is_sync(model: ModelConfig) -> bool:
    return model.num_registers > 0 or model.global_tokens != "none"


def _released(model: ModelConfig) -> ModelConfig:
    return sync_base() if _is_sync(model) else cavmae_base()


@cache
def _official_parameters(blueprint: Blueprint) -> int | None:
    try:
        return sum(tensor.numel() for tensor in official_state_dict(blueprint.skeleton()).values())
    except CheckpointError:
        return None
