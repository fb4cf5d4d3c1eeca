"""Probabilities of a split's clips: all frames of a clip, averaged as the papers average them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from cavsync.model.classifier import CavMaeClassifier
from cavsync.train.data.labelled import LabelledClips, WholeClips
from cavsync.train.data.labels import Task
from cavsync.train.data.loader import batches_of
from cavsync.train.engine.device import autocast
from cavsync.train.evaluation.classification.metrics import Classification, classification
from cavsync.train.finetune.step import INPUTS, describe


class Validation:
    """The clips of a split, to be scored again and again; frozen encoders run over them once."""

    def __init__(
        self, clips: LabelledClips, task: Task, device: torch.device, precision: str, keep: bool
    ) -> None:
        self.clips, self.task, self.device, self.precision = clips, task, device, precision
        self._keep, self._kept = keep, list[Tensor]()

    def score(self, model: CavMaeClassifier) -> Classification:
        return classification(self.probabilities(model), self.clips.targets.numpy(), self.clips.labels.names)

    def probabilities(self, model: CavMaeClassifier) -> np.ndarray:
        """(clips, classes) float32."""
        with evaluating(model):
            return class_probabilities(model, self._vectors(model), self.task)

    def _vectors(self, model: CavMaeClassifier) -> Iterable[Tensor]:
        if self._keep and not self._kept:
            self._kept = list(clip_vectors(model, self.clips, self.device, self.precision))
        return self._kept or clip_vectors(model, self.clips, self.device, self.precision)


@contextmanager
def evaluating(model: CavMaeClassifier) -> Iterator[None]:
    """In eval mode and without gradients; afterwards as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def clip_vectors(
    model: CavMaeClassifier, clips: LabelledClips, device: torch.device, precision: str
) -> Iterator[Tensor]:
    """(frames, dim) float32 on the CPU for each clip: what the head sees of it."""
    whole = WholeClips(clips)
    for item in batches_of(whole.__getitem__, range(len(whole)), clips.config.num_workers, device):
        given = {name: item[name].unsqueeze(0).to(device) for name in INPUTS if name in item}
        with autocast(device, precision):
            vectors = describe(model, given)
        yield vectors.squeeze(0).float().cpu()


def class_probabilities(model: CavMaeClassifier, vectors: Iterable[Tensor], task: Task) -> np.ndarray:
    """(clips, classes): softmax or sigmoid of each answer, then their mean, as CAV-MAE's frames are averaged."""
    device = next(model.head.parameters()).device
    answers = (model.head(of_clip.unsqueeze(0).to(device)).squeeze(0) for of_clip in vectors)
    rows = [torch.softmax(one, -1) if task == "single-label" else torch.sigmoid(one) for one in answers]
    return torch.stack([row.mean(dim=0) for row in rows]).cpu().numpy()
