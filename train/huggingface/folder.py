"""A folder that transformers loads with `trust_remote_code=True`, and that this package reads back.

config.json                the configuration, `auto_map`, how inputs are normalised, the training record
model.safetensors          all weights
modeling_cavmae_sync.py    generated: the model and the classifier, for torch and transformers alone
preprocessor_config.json   what the processor normalises with
processing_cavmae_sync.py  generated: waveforms and frames to inputs, for torchvision too
README.md                  the model card
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from cavsync.errors import writing_output
from cavsync.model.checkpoints.checkpoint import AnyModel, open_checkpoint, records_of
from cavsync.model.checkpoints.export.parity import EncoderName, encode_with, largest_difference, require_near
from cavsync.model.checkpoints.files.records import (
    FOLDER_CONFIG_NAME,
    FOLDER_PREFIX,
    MODEL_TYPE,
    WEIGHTS_NAME,
)
from cavsync.model.checkpoints.files.writing import temporary_folder, write_checkpoint_file
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.errors import CheckpointError
from cavsync.train.huggingface.generated import one_file

MODELING, PROCESSING = "modeling_cavmae_sync", "processing_cavmae_sync"
MODEL_CLASS, CLASSIFIER_CLASS = "CavMaeSyncModel", "CavMaeSyncForVideoClassification"
PROCESSOR_CLASS = "CavMaeSyncProcessor"
# timm's layers are more than the model needs, and transformers does not bring them.
STAND_INS = {
    f"timm.layers.{module}": "cavsync.train.huggingface.layers"
    for module in ("attention", "mlp", "patch_embed")
}
PROBLEM_TYPES = {"single-label": "single_label_classification", "multi-label": "multi_label_classification"}
# The Auto class by which libraries find a classifier of one modality.
AUTO_CLASSES = {"audio": "AutoModelForAudioClassification", "image": "AutoModelForImageClassification"}


def export_folder(
    model: AnyModel,
    folder: Path,
    tolerance: float,
    inputs: Mapping[str, Any],
    training: Mapping[str, Any] | None,
    card: str,
) -> dict[EncoderName, float]:
    """Writes the folder; returns the largest difference of each encoder to `model`.

    `inputs` are `mel_mean`, `mel_std`, `pad_value` and `alignment`. The folder is read back first; where the model read
    differs, above `tolerance` or in a tensor, nothing is written and CheckpointError is raised.
    """
    config = folder_config(model, inputs, training)
    contents = {
        FOLDER_CONFIG_NAME: json.dumps(config, indent=1),
        "preprocessor_config.json": json.dumps(_processor_config(model, inputs), indent=1),
        f"{MODELING}.py": modeling_code(),
        f"{PROCESSING}.py": processing_code(),
        "README.md": card,
    }
    with writing_output(folder), temporary_folder(folder) as temporary:
        for name, text in contents.items():
            (temporary / name).write_text(text, encoding="utf-8")
        tensors = {FOLDER_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
        write_checkpoint_file(temporary, tensors, {})
        differences = _differences(model, temporary, folder)
        require_near(folder, differences, tolerance)
        folder.mkdir(exist_ok=True)
        for name in (*contents, WEIGHTS_NAME):
            os.replace(temporary / name, folder / name)
    return differences


def modeling_code() -> str:
    """The modelling file, from the source of this package."""
    return one_file("cavsync.train.huggingface.modeling", STAND_INS)


def processing_code() -> str:
    """The file of the processor, from the source of this package."""
    return one_file("cavsync.train.huggingface.processing", {})


def folder_config(
    model: AnyModel, inputs: Mapping[str, Any], training: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The content of config.json."""
    classifier = model.classifier if isinstance(model, CavMaeClassifier) else None
    own_class = MODEL_CLASS if classifier is None else CLASSIFIER_CLASS
    auto_classes = [
        "AutoModel",
        *([AUTO_CLASSES[classifier.modality]] if classifier and classifier.modality in AUTO_CLASSES else []),
    ]
    auto_map = dict.fromkeys(auto_classes, own_class) | {
        "AutoConfig": "CavMaeSyncConfig",
        "AutoModelForVideoClassification": CLASSIFIER_CLASS,
    }
    config = {
        "model_type": MODEL_TYPE,
        "architectures": [own_class],
        "auto_map": {auto: f"{MODELING}.{name}" for auto, name in auto_map.items()},
        "dtype": "float32",
    }
    if classifier is not None:
        config |= _labels(classifier.num_classes, training or {})
    return config | records_of(model, training, inputs)


def _labels(num_classes: int, training: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the classes, as transformers shows them."""
    names = training.get("label_names") or [f"LABEL_{number}" for number in range(num_classes)]
    id2label = {str(number): name for number, name in enumerate(names)}
    task = {} if "task" not in training else {"problem_type": PROBLEM_TYPES[training["task"]]}
    return {
        "id2label": id2label,
        "label2id": {name: int(number) for number, name in id2label.items()},
        **task,
    }


def _processor_config(model: AnyModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    auto_map = dict.fromkeys(("AutoProcessor", "AutoFeatureExtractor"), f"{PROCESSING}.{PROCESSOR_CLASS}")
    sizes = {"audio_rows": model.config.audio_rows, "image_size": model.config.image_size}
    return {"auto_map": auto_map, "processor_class": PROCESSOR_CLASS, **sizes, **inputs}


def _differences(model: AnyModel, written: Path, folder: Path) -> dict[EncoderName, float]:
    """The largest difference of each encoder's outputs between `model` and the folder `written`, which becomes `folder`."""
    again = open_checkpoint(written).build()
    expected, found = model.state_dict(), again.state_dict()
    if expected.keys() != found.keys() or not all(
        torch.equal(expected[name], found[name]) for name in expected
    ):
        raise CheckpointError(
            f"{folder} was not written: its weights are read back as others than were written."
        )
    return {name: largest_difference(model, name, encode_with(again, name)) for name in get_args(EncoderName)}
