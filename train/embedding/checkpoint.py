"""A model loaded with the preprocessing that it was trained with, and its device."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cavsync.model.checkpoints.checkpoint import Checkpoint, assumption, open_checkpoint
from cavsync.model.encoder import Encoder
from cavsync.pipeline.storage.path import AnyPath, as_path
from cavsync.train.choices import InferencePrecision
from cavsync.train.data.config import DataConfig
from cavsync.train.data.inputs import CheckpointInputs, find_weights, split_fields
from cavsync.train.data.window import WindowRule
from cavsync.train.engine.config import Precision
from cavsync.train.engine.device import choose_device, inference_precision, warn_of_slow_precision

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in eval mode on its device, and the inputs that it takes."""

    model: Encoder
    """A CavMaeSync, or the classifier that it was tuned to."""
    inputs: DataConfig
    """Those of the run that made the weights, else those of published weights."""
    weights: Path
    device: torch.device
    precision: Precision = "float32"
    """Of the products in the encoders; what is made of their outputs is float32."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """How the model came to be; empty where the file does not say."""

    @classmethod
    def load(
        cls,
        checkpoint: AnyPath | str,
        device: str = "cpu",
        precision: InferencePrecision = "float32",
        **overrides: Any,
    ) -> "LoadedCheckpoint":
        """From a run folder, a file in one, or a published file; `device` is "auto", "cpu" or "cuda".

        `precision` "auto" is bfloat16 where the device computes it faster.

        `overrides` are fields of the model and of its inputs that a published file does not state, such as `num_heads`
        and `mel_mean`; what neither it nor they state is taken as published, and logged. Raises EvaluationError for a
        path that holds no weights, CheckpointError for weights that are not those of a model.
        """
        weights, chosen = find_weights(as_path(checkpoint)), choose_device(device)
        opened, inputs = open_with_inputs(weights, overrides)
        resolved = inference_precision(precision, chosen)
        warn_of_slow_precision(chosen, resolved, "--precision float32")
        return cls(
            model=opened.build().to(chosen),
            inputs=inputs.config,
            weights=weights,
            device=chosen,
            precision=resolved,
            training=opened.file.training or {},
        )

    @property
    def is_published(self) -> bool:
        """Nothing names a dataset that the weights were trained on."""
        return not self.inputs.path

    @property
    def window(self) -> WindowRule:
        """How a log-mel becomes the model's audio segments."""
        return WindowRule.of(self.inputs, self.model.config.audio_rows)


def open_with_inputs(
    weights: Path, given: Mapping[str, Any], *, averaged: bool = False
) -> tuple[Checkpoint, CheckpointInputs]:
    """The file `weights` and how its inputs are normalised, with the fields in `given` instead of what it states.

    What neither states is taken as published, and logged. `averaged` takes the moving average of the weights.
    """
    model_fields, input_fields = split_fields(given)
    checkpoint = open_checkpoint(weights, averaged=averaged, **model_fields)
    inputs = CheckpointInputs.of(weights, checkpoint.file.records(), input_fields)
    if assumed := {**checkpoint.assumed, **inputs.assumed}:
        logger.warning("%s", assumption(weights, assumed))
    return checkpoint, inputs
