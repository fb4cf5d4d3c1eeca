"""Items for training a head on the features of frozen encoders, computed once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from cavsync.model.classifier import CavMaeClassifier
from cavsync.train.data.labelled.clips import LabelledClips
from cavsync.train.data.sampler import EpochSample
from cavsync.train.evaluation.classification.predict import clip_vectors, evaluating
from cavsync.train.finetune.augment import smoothed
from cavsync.train.finetune.config import FinetuneConfig
from cavsync.train.finetune.items import ITEM_STREAM


class EncodedClips(TorchDataset[dict[str, Any]]):
    """Items as `TrainingClips` gives them, with `vectors` (n, dim) instead of audio and images."""

    def __init__(self, clips: LabelledClips, vectors: list[torch.Tensor], config: FinetuneConfig) -> None:
        self.vectors, self.keys, self.seed = vectors, clips.store.keys, config.seed
        self.num_frames = config.frames_per_clip or clips.num_frames()
        self.targets = smoothed(clips.targets, config.mixing.label_smoothing)

    @classmethod
    def encode(
        cls,
        model: CavMaeClassifier,
        clips: LabelledClips,
        config: FinetuneConfig,
        device: torch.device,
        on_clip: Callable[[int, int], None],
    ) -> "EncodedClips":
        """Runs the encoders of `model` over every clip; frames x dim x 4 bytes a clip stay in memory."""
        vectors: list[torch.Tensor] = []
        with evaluating(model):
            for of_clip in clip_vectors(model, clips, device, config.precision):
                vectors.append(of_clip)
                on_clip(len(vectors), len(clips))
        return cls(clips, vectors, config)

    def __getitem__(self, sample: EpochSample) -> dict[str, Any]:
        vectors = self.vectors[sample.clip]
        if self.num_frames < len(vectors):
            rng = np.random.default_rng((ITEM_STREAM, self.seed, sample.epoch, sample.position))
            vectors = vectors[np.sort(rng.permutation(len(vectors))[: self.num_frames])]
        return {"vectors": vectors, "target": self.targets[sample.clip], "key": self.keys[sample.clip]}
