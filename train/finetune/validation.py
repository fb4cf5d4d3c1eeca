"""Validation of a classifier: the scores of a split, each clip by the mean over all its frames, as in the papers."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from cavsync.model.classifier import CavMaeClassifier
from cavsync.train.choices import LabelTask
from cavsync.train.data.labelled.clips import LabelledClips
from cavsync.train.evaluation.classification.metrics import Classification, classification
from cavsync.train.evaluation.classification.predict import class_probabilities, clip_vectors, evaluating


class ClassValidation:
    """The clips of a split, scored several times; frozen encoders run over them once."""

    def __init__(
        self, clips: LabelledClips, task: LabelTask, device: torch.device, precision: str, frozen: bool
    ) -> None:
        self.clips, self.task, self.device, self.precision = clips, task, device, precision
        self._frozen, self._cached = frozen, list[Tensor]()

    def score(self, model: CavMaeClassifier) -> Classification:
        return classification(self.probabilities(model), self.clips.targets.numpy(), self.clips.labels.names)

    def probabilities(self, model: CavMaeClassifier) -> np.ndarray:
        """(clips, classes) float32."""
        with evaluating(model):
            return class_probabilities(model, self._vectors(model), self.task)

    def _vectors(self, model: CavMaeClassifier) -> Iterable[Tensor]:
        if self._frozen and not self._cached:
            self._cached = list(clip_vectors(model, self.clips, self.device, self.precision))
        return self._cached or clip_vectors(model, self.clips, self.device, self.precision)
