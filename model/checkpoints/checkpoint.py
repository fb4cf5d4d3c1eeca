"""Models to files and back: every tensor of a file must be one of the model's, and the other way round."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.files import Stored, read_stored, write_stored
from cavsync.model.checkpoints.official import (
    infer_classifier_fields,
    infer_fields,
    is_finetuned,
    official_names,
    official_state_dict,
)
from cavsync.model.checkpoints.tensors import require_same
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import ClassifierConfig
from cavsync.model.config import ModelConfig
from cavsync.model.errors import CheckpointError
from cavsync.model.patches import moved_table

__all__ = ["CheckpointError", "load_classifier", "load_model", "save_classifier", "save_model"]


AnyModel = CavMaeSync | CavMaeClassifier


def save_model(model: AnyModel, path: Path | str, training: Mapping[str, Any] | None = None) -> Path:
    """Writes a `.safetensors` file, or `model.safetensors` in the folder `path`; returns the file.

    `training` says how the model came to be, in values that JSON can hold; `cavsync checkpoint inspect` shows it.
    """
    records = {"model_config": asdict(model.config)}
    if isinstance(model, CavMaeClassifier):
        records["classifier_config"] = asdict(model.classifier)
    if training is not None:
        records["training"] = dict(training)
    return write_stored(Path(path), model.state_dict(), records)


def save_classifier(
    model: CavMaeClassifier, path: Path | str, training: Mapping[str, Any] | None = None
) -> Path:
    """As `save_model`; `load_classifier` reads it."""
    return save_model(model, path, training)


def load_model(path: Path | str, **overrides: Any) -> AnyModel:
    """The model stored at `path`, in float32 and eval mode: a CavMaeSync, or the classifier it was tuned to.

    `overrides` are fields of `ModelConfig`. Published files do not tell `num_heads`, `decoder_num_heads` and
    `norm_pix`: these are the released values unless overridden. Another `audio_rows` or `image_size` gets new
    position tables. Raises CheckpointError if any tensor is missing, unexpected or misshapen.
    """
    return open_checkpoint(path, **overrides).build()


def load_classifier(path: Path | str, **overrides: Any) -> CavMaeClassifier:
    """The classifier stored at `path`, in float32 and eval mode; see `load_model`.

    `overrides` are fields of `ModelConfig` and of `ClassifierConfig`. Published files do not tell which modality
    is asked for: it is both, or `modality="audio"` or `"image"`, with the features that upstream uses for it.
    """
    require_fields(overrides)
    stored = read_stored(Path(path))
    if not _is_classifier(stored):
        raise CheckpointError(
            f"{path} is no classifier, its model has no head; cavsync train probe or finetune gives it one"
        )
    model = check_stored(stored, **overrides).build()
    assert isinstance(model, CavMaeClassifier)
    return model


@dataclass(frozen=True)
class Blueprint:
    """What a model is built from."""

    model: ModelConfig
    classifier: ClassifierConfig | None

    @property
    def num_blocks(self) -> int:
        model = self.model
        shared = model.encoder_depth + model.joint_depth + model.contrastive_head_depth
        return shared + (self.classifier.attention_depth if self.classifier else model.decoder_depth)

    def build(self) -> AnyModel:
        if self.classifier is None:
            return CavMaeSync(self.model)
        return CavMaeClassifier(self.model, self.classifier)

    def skeleton(self) -> AnyModel:
        """The model without memory or random numbers behind it."""
        try:
            with torch.device("meta"):
                return self.build()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # sizes beyond any tensor
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"its configuration cannot be built: {reason}") from error


@dataclass(frozen=True)
class Checkpoint:
    """A file whose tensors are exactly those of its model."""

    stored: Stored
    filed: Blueprint
    """The model at the sizes of the file."""
    asked: Blueprint
    """The model at the sizes asked for."""

    def build(self) -> AnyModel:
        """The model asked for, with the tensors of the file."""
        tensors = self.stored.tensors | self.moved_positions()
        model = self.asked.skeleton()
        names = official_names(model) if self.stored.is_official else {n: n for n in model.state_dict()}
        # A copy, so that no two parameters share memory if they did in the file.
        own = {name: tensors[filed].to(torch.float32, copy=True) for name, filed in names.items()}
        model.load_state_dict(own, assign=True)
        return model.eval()

    def moved_positions(self) -> dict[str, Tensor]:
        """New tables for the modalities whose grid is not the file's."""
        found, asked, tensors = self.filed.model, self.asked.model, self.stored.tensors
        grids = {"a": (found.audio_grid, asked.audio_grid), "v": (found.image_grid, asked.image_grid)}
        return {
            name: self._moved(name, *grid)
            for modality, grid in grids.items()
            for name in (f"pos_embed_{modality}", f"decoder_pos_embed_{modality}")
            if name in tensors and grid[0] != grid[1]
        }

    def _moved(self, name: str, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
        try:
            return moved_table(name, self.stored.tensors[name], old, new)
        except CheckpointError as error:
            raise CheckpointError(f"{self.stored.path}: {error}") from error


def open_checkpoint(path: Path | str, **overrides: Any) -> Checkpoint:
    """The model or classifier at `path`, whichever it is, read whole; see `load_model` and `load_classifier`."""
    require_fields(overrides)
    stored = read_stored(Path(path))
    if not _is_classifier(stored):
        require_fields(overrides, ModelConfig)
    return check_stored(stored, **overrides)


def check_stored(stored: Stored, **overrides: Any) -> Checkpoint:
    """What was read, held against the model that its configuration, or its shapes, tell.

    Raises CheckpointError where they differ.
    """
    filed, asked = _blueprints(stored, overrides)
    try:
        _require_room(filed, len(stored.tensors))
        skeleton, _ = filed.skeleton(), asked.skeleton()
    except CheckpointError as error:
        raise CheckpointError(f"{stored.path} cannot be loaded: {error}") from error
    expected = official_state_dict(skeleton) if stored.is_official else skeleton.state_dict()
    require_same(stored.path, stored.tensors, expected)
    return Checkpoint(stored, filed, asked)


def _require_room(blueprint: Blueprint, num_tensors: int) -> None:
    """Before a damaged configuration takes all day to build."""
    if blueprint.num_blocks > num_tensors:
        raise CheckpointError(
            f"{blueprint.num_blocks} blocks are configured, and it has {num_tensors} tensors"
        )


def require_fields(names: Iterable[str], *configs: type[ModelConfig] | type[ClassifierConfig]) -> None:
    """ValueError, with the nearest field, where one of `names` is no field of `configs`; by default of both."""
    configs = configs or (ModelConfig, ClassifierConfig)
    known = [field.name for config in configs for field in fields(config)]
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0)[0]
            owners = " and ".join(config.__name__ for config in configs)
            raise ValueError(f"{owners} has no field {name!r}; did you mean {nearest!r}?")


def _blueprints(stored: Stored, overrides: dict[str, Any]) -> tuple[Blueprint, Blueprint]:
    """The configuration at the sizes of the file, and at the sizes asked for."""
    try:
        filed = infer_fields(stored.tensors) if stored.model_config is None else stored.model_config
        of_model = {field.name for field in fields(ModelConfig)}
        model = ModelConfig(**(filed | {n: v for n, v in overrides.items() if n in of_model}))
        classifier = _classifier(stored, {n: v for n, v in overrides.items() if n not in of_model})
        sizes = {name: filed[name] for name in ("audio_rows", "image_size")}
        return Blueprint(replace(model, **sizes), classifier), Blueprint(model, classifier)
    except KeyError as error:
        raise CheckpointError(
            f"{stored.path} gives no valid configuration: it has no {error.args[0]}"
        ) from error
    except (TypeError, ValueError) as error:
        hint = "; published files do not tell it, pass it to load_model" if "num_heads" in str(error) else ""
        raise CheckpointError(f"{stored.path} gives no valid configuration: {error}{hint}") from error


def _is_classifier(stored: Stored) -> bool:
    return stored.classifier_config is not None or (stored.is_official and is_finetuned(stored.tensors))


def _classifier(stored: Stored, overrides: dict[str, Any]) -> ClassifierConfig | None:
    if not _is_classifier(stored):
        return None
    filed = stored.classifier_config or infer_classifier_fields(stored.tensors, overrides)
    return ClassifierConfig(**(filed | overrides))
