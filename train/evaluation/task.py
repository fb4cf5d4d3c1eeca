"""What is evaluated: a checkpoint, and clips cut and normalised as its training cut and normalised them."""

from dataclasses import dataclass, replace
from pathlib import Path

from cavsync.train.data.config import DataConfig
from cavsync.train.data.inputs import PUBLISHED_INPUTS, find_weights, trained_inputs
from cavsync.train.errors import EvaluationError


@dataclass(frozen=True)
class Task:
    """One checkpoint on one split; `data` says how its clips become inputs."""

    weights: Path
    data: DataConfig

    @classmethod
    def of(cls, checkpoint: Path, data: Path | None, split: str) -> "Task":
        """From a run folder, a file in one, or a published file, which needs `data`.

        The inputs are those of the run; without a run they are those of published weights. `data` defaults to
        the dataset that the run was trained on. Raises EvaluationError where something is missing.
        """
        weights = find_weights(checkpoint)
        trained = trained_inputs(weights)
        if trained is None and data is None:
            raise EvaluationError(
                f"{weights} belongs to no run folder, so say what to score it on: --data DIR."
            )
        inputs = trained or PUBLISHED_INPUTS
        path = inputs.path if data is None else str(data)
        evaluated = replace(inputs, path=path, split=split, pairing="matched")
        return cls(weights, replace(evaluated, image_augmentation=False, audio_noise=False))
