"""A checkpoint on one split of a dataset, whose clips are cut and normalised as its training cut and normalised them."""

from dataclasses import dataclass, replace
from pathlib import Path

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.data.config import DataConfig
from cavsync.train.data.pairs import resolved
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.errors import EvaluationError


@dataclass(frozen=True)
class SplitTask:
    """What every evaluation of clips begins with: loaded and opened once."""

    checkpoint: LoadedCheckpoint
    dataset: Dataset
    data: DataConfig
    """How the clips of the split become inputs; resolved."""

    @property
    def weights(self) -> Path:
        return self.checkpoint.weights

    @classmethod
    def of(cls, checkpoint: LoadedCheckpoint, data: Path | None, split: str) -> "SplitTask":
        """`data` defaults to the dataset that the run was trained on; published weights and runs on several need it.

        Raises EvaluationError where it is missing, DatasetError where it is no dataset.
        """
        if checkpoint.is_published and data is None:
            raise EvaluationError(
                f"{checkpoint.weights} belongs to no run folder, so say what to score it on: --data DIR."
            )
        trained_on = checkpoint.inputs.paths
        if data is None and len(trained_on) > 1:
            raise EvaluationError(
                f"{checkpoint.weights} was trained on {len(trained_on)} datasets, and a report is on one: say which with "
                f"{' or '.join(f'--data {path}' for path in trained_on)}."
            )
        path = trained_on[0] if data is None else str(data)
        evaluated = replace(checkpoint.inputs.on(path), split=split, pairing="matched")
        plain = replace(evaluated, image_augmentation=False, audio_noise=False)
        dataset = Dataset.open(path)
        return cls(checkpoint, dataset, resolved(plain, [dataset]))
