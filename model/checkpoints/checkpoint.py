"""Models to files and back: a file must hold every tensor of its model, and none more."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.files.checkpoint_file import CheckpointFile, read_checkpoint_file
from cavsync.model.checkpoints.files.records import sidecar_path
from cavsync.model.checkpoints.files.writing import write_checkpoint_file
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
from cavsync.model.errors import CheckpointError, ModelConfigError
from cavsync.model.patches import resized_table

AnyModel = CavMaeSync | CavMaeClassifier

# Fields that decide outputs and leave no trace in the shapes of tensors.
UNSHAPED_FIELDS = ("num_heads", "keep_registers")
DECODER_FIELDS = ("decoder_num_heads", "norm_pix")
CLASSIFIER_FIELDS = ("modality", "features", "pooling")

logger = logging.getLogger(__name__)


def save_model(
    model: AnyModel,
    path: Path | str,
    training: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a `.safetensors` file, or `model.safetensors` in the folder `path`; returns the file.

    `training` records how the model was trained, in values that JSON can hold; `cavsync checkpoint inspect` shows it.
    `inputs` records how a log-mel is normalised, where `training` holds no configuration that says it.
    """
    return write_checkpoint_file(Path(path), model.state_dict(), records_of(model, training, inputs))


def records_of(
    model: AnyModel, training: Mapping[str, Any] | None, inputs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a reader of the model's file needs besides its tensors."""
    records: dict[str, Any] = {"model_config": asdict(model.config)}
    if isinstance(model, CavMaeClassifier):
        records["classifier_config"] = asdict(model.classifier)
    given = {"inputs": inputs, "training": training}
    return records | {name: dict(record) for name, record in given.items() if record is not None}


def load_model(path: Path | str, **overrides: Any) -> AnyModel:
    """The model stored at `path`, in float32 and eval mode: a CavMaeSync, or a CavMaeClassifier of a fine-tuned file.

    `overrides` are fields of `ModelConfig` and, for a classifier, of `ClassifierConfig`. Published files do not hold
    `num_heads`, `decoder_num_heads` and `norm_pix`: these are the released values unless overridden. Nor do they hold
    the `modality` of a classifier: it is both unless overridden, with the features that upstream uses for it. Another
    `audio_rows` or `image_size` gets new position tables. Raises CheckpointError if any tensor is missing,
    unexpected or misshapen, ModelConfigError for an unknown field. What had to be taken as released is logged.
    """
    checkpoint = open_checkpoint(path, **overrides)
    if checkpoint.assumed:
        logger.warning("%s", assumption(checkpoint.file.path, checkpoint.assumed))
    return checkpoint.build()


def assumption(weights: Path, assumed: Mapping[str, Any]) -> str:
    """A warning that `weights` states none of these fields."""
    listed = ", ".join(f"{name}={value}" for name, value in assumed.items())
    return (
        f"{weights} does not state how it was made, so these are taken from the published models: {listed}. A file of "
        f"another training needs its own: {sidecar_path(weights).name} beside it, which `cavsync checkpoint export` "
        "writes, or --set FIELD=VALUE for each (keywords in Python)."
    )


@dataclass(frozen=True)
class ModelSpec:
    """The configurations that a model is built from."""

    model: ModelConfig
    classifier: ClassifierConfig | None
    """None for a pretraining model."""

    def build(self) -> AnyModel:
        """The model with random weights."""
        if self.classifier is None:
            return CavMaeSync(self.model)
        return CavMaeClassifier(self.model, self.classifier)

    def build_on_meta(self) -> AnyModel:
        """The model on the meta device: names and shapes, without memory and without random draws."""
        try:
            with torch.device("meta"):
                return self.build()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # sizes beyond any tensor
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"its configuration cannot be built: {reason}") from error

    def require_blocks(self, num_tensors: int) -> None:
        """CheckpointError where `num_tensors` cannot fill the blocks; a damaged depth would take all day to build."""
        model = self.model
        encoder_blocks = model.encoder_depth + model.joint_depth + model.contrastive_head_depth
        own_blocks = self.classifier.attention_depth if self.classifier else model.decoder_depth
        if encoder_blocks + own_blocks > num_tensors:
            raise CheckpointError(
                f"{encoder_blocks + own_blocks} blocks are configured, and it has {num_tensors} tensors"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A file whose tensors are exactly those of its model."""

    file: CheckpointFile
    stored: ModelSpec
    """The model at the sizes of the file."""
    requested: ModelSpec
    """The model with the sizes that overrides ask for."""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    """Fields that decide outputs, which nothing states, with the released values that they were given."""

    def build(self) -> AnyModel:
        """The requested model with the tensors of the file, in float32 and eval mode."""
        tensors = self.file.tensors | self.resized_positions()
        model = self.requested.build_on_meta()
        file_names = official_names(model) if self.file.is_official else {n: n for n in model.state_dict()}
        # A copy, so that no two parameters share memory if they did in the file.
        state = {name: tensors[in_file].to(torch.float32, copy=True) for name, in_file in file_names.items()}
        model.load_state_dict(state, assign=True)
        return model.eval()

    def resized_positions(self) -> dict[str, Tensor]:
        """New position tables, (1, patches, dim), for the modalities whose requested grid is not the file's."""
        stored, requested, tensors = self.stored.model, self.requested.model, self.file.tensors
        grids = {
            "a": (stored.audio_grid, requested.audio_grid),
            "v": (stored.image_grid, requested.image_grid),
        }
        try:
            return {
                name: resized_table(name, tensors[name], old, new)
                for modality, (old, new) in grids.items()
                for name in (f"pos_embed_{modality}", f"decoder_pos_embed_{modality}")
                if name in tensors and old != new
            }
        except CheckpointError as error:
            raise CheckpointError(f"{self.file.path}: {error}") from error


def open_checkpoint(path: Path | str, *, averaged: bool = False, **overrides: Any) -> Checkpoint:
    """The model or classifier at `path`, read and checked but not built; see `load_model`.

    `averaged` takes the moving average of the weights, which training checkpoints may hold.
    """
    require_fields(overrides)
    file = read_checkpoint_file(Path(path), averaged=averaged)
    if not _is_classifier(file):
        require_fields(overrides, ModelConfig)
    return check_file(file, **overrides)


def check_file(file: CheckpointFile, **overrides: Any) -> Checkpoint:
    """Compares the tensors of `file` with the model that its configuration, or their shapes, describe.

    Raises CheckpointError where they differ.
    """
    stored, requested = _specs(file, overrides)
    try:
        stored.require_blocks(len(file.tensors))
        model = stored.build_on_meta()
        if requested != stored:
            requested.build_on_meta()
    except CheckpointError as error:
        raise CheckpointError(f"{file.path} cannot be loaded: {error}") from error
    expected = official_state_dict(model) if file.is_official else model.state_dict()
    require_same(file.path, file.tensors, expected)
    return Checkpoint(file, stored, requested, _assumed(file, requested, overrides))


def require_fields(
    names: Iterable[str], *configs: type[ModelConfig] | type[ClassifierConfig], beside: Sequence[str] = ()
) -> None:
    """ModelConfigError, with the nearest field, where one of `names` is no field of `configs`; by default of both.

    The nearest may also be one of `beside`.
    """
    configs = configs or (ModelConfig, ClassifierConfig)
    known = [one.name for config in configs for one in fields(config)]
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, [*known, *beside], n=1, cutoff=0)[0]
            owners = " and ".join(config.__name__ for config in configs)
            raise ModelConfigError(f"{owners} has no field {name!r}; did you mean {nearest!r}?")


def _specs(file: CheckpointFile, overrides: dict[str, Any]) -> tuple[ModelSpec, ModelSpec]:
    """The model at the sizes of the file, and the model that is requested."""
    try:
        stored = infer_fields(file.tensors) if file.model_config is None else file.model_config
        model_fields = {one.name for one in fields(ModelConfig)}
        model = ModelConfig(**(stored | {n: v for n, v in overrides.items() if n in model_fields}))
        classifier = _classifier(file, {n: v for n, v in overrides.items() if n not in model_fields})
        sizes = {name: stored[name] for name in ("audio_rows", "image_size")}
        return ModelSpec(replace(model, **sizes), classifier), ModelSpec(model, classifier)
    except KeyError as error:
        raise CheckpointError(
            f"{file.path} gives no valid configuration: it has no {error.args[0]}"
        ) from error
    except (TypeError, ValueError) as error:
        hint = "; published files do not hold it, pass it to load_model" if "num_heads" in str(error) else ""
        raise CheckpointError(f"{file.path} gives no valid configuration: {error}{hint}") from error


def _assumed(file: CheckpointFile, spec: ModelSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    if file.model_config is not None:
        return {}
    names = (*UNSHAPED_FIELDS, *(DECODER_FIELDS if spec.classifier is None else CLASSIFIER_FIELDS))
    values = asdict(spec.model) | (asdict(spec.classifier) if spec.classifier else {})
    return {name: values[name] for name in names if name not in given}


def _is_classifier(file: CheckpointFile) -> bool:
    return file.classifier_config is not None or (file.is_official and is_finetuned(file.tensors))


def _classifier(file: CheckpointFile, overrides: dict[str, Any]) -> ClassifierConfig | None:
    if not _is_classifier(file):
        return None
    stored = file.classifier_config or infer_classifier_fields(file.tensors, overrides)
    return ClassifierConfig(**(stored | overrides))
