"""The description of a checkpoint file: its model, layout, sizes and training."""

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from cavsync.model.checkpoints.checkpoint import Checkpoint, ModelSpec
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.config import ModelConfig, cavmae_base, sync_base
from cavsync.model.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Description:
    """One checkpoint file; counts of parameters include the fixed position tables, as upstream's do."""

    path: str
    kind: str
    """Such as "CAV-MAE Sync, pretrained" or "CAV-MAE, classifier of 309 classes"."""
    layout: str
    num_tensors: int
    num_parameters: int
    """In the file."""
    num_official_parameters: int | None
    """In upstream's layout, which has unused norms too; None where upstream has no such model."""
    num_released_parameters: int | None
    """In upstream's layout at the released sizes."""
    model_config: dict[str, Any]
    classifier_config: dict[str, Any] | None
    training: dict[str, Any] | None
    """How the model was trained, where the file records it."""


def describe_checkpoint(checkpoint: Checkpoint) -> Description:
    """The file as it is stored; overrides of sizes are not applied."""
    file, spec = checkpoint.file, checkpoint.stored
    released = sync_base() if _is_sync(spec.model) else cavmae_base()
    return Description(
        path=str(file.path),
        kind=_kind(spec),
        layout="official" if file.is_official else "cavsync",
        num_tensors=len(file.tensors),
        num_parameters=sum(tensor.numel() for tensor in file.tensors.values()),
        num_official_parameters=_official_parameters(spec),
        num_released_parameters=_official_parameters(replace(spec, model=released)),
        model_config=asdict(spec.model),
        classifier_config=asdict(spec.classifier) if spec.classifier else None,
        training=file.training,
    )


def _kind(spec: ModelSpec) -> str:
    name = "CAV-MAE Sync" if _is_sync(spec.model) else "CAV-MAE"
    if spec.classifier is None:
        return f"{name}, pretrained"
    return f"{name}, classifier of {spec.classifier.num_classes} classes"


def _is_sync(model: ModelConfig) -> bool:
    return model.num_registers > 0 or model.global_tokens != "none"


@cache
def _official_parameters(spec: ModelSpec) -> int | None:
    try:
        return sum(tensor.numel() for tensor in official_state_dict(spec.build_on_meta()).values())
    except CheckpointError:
        return None
