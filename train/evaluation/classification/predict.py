"""A classifier's probabilities of clips."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from cavsync.model.classifier import CavMaeClassifier
from cavsync.train.choices import LabelTask
from cavsync.train.data.images import normalise_images
from cavsync.train.data.labelled.clips import LabelledClips, WholeClips
from cavsync.train.data.loader import load_batches
from cavsync.train.engine.device import autocast

INPUTS = ("audio", "image", "vectors")


def describe(model: CavMaeClassifier, given: dict[str, Tensor]) -> Tensor:
    """(clips, frames, dim) input of the head, from `audio` and `image` as items hold them."""
    image = given.get("image")
    return model.frame_features(given.get("audio"), None if image is None else normalise_images(image))


@contextmanager
def evaluating(model: CavMaeClassifier) -> Iterator[None]:
    """Runs the body with the model in eval mode and without gradients, then restores its mode."""
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
    """(frames, dim) float32 on the CPU for each clip: the input of the head."""
    whole = WholeClips(clips)
    for item in load_batches(whole.__getitem__, range(len(whole)), clips.config.num_workers, device):
        given = {name: item[name].unsqueeze(0).to(device) for name in INPUTS if name in item}
        with autocast(device, precision):
            vectors = describe(model, given)
        yield vectors.squeeze(0).float().cpu()


def class_probabilities(model: CavMaeClassifier, vectors: Iterable[Tensor], task: LabelTask) -> np.ndarray:
    """(clips, classes) from (frames, dim) vectors of each clip: softmax or sigmoid, then the mean over frames."""
    device = next(model.head.parameters()).device
    answers = (model.head(of_clip.unsqueeze(0).to(device)).squeeze(0) for of_clip in vectors)
    rows = [torch.softmax(one, -1) if task == "single-label" else torch.sigmoid(one) for one in answers]
    return torch.stack([row.mean(dim=0) for row in rows]).cpu().numpy()
