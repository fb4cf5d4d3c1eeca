"""Labelled clips as training items: augmented and mixed."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from cavsync.train.data.augment import crop_and_flip, noise_and_roll
from cavsync.train.data.images import fit
from cavsync.train.data.labelled.clips import LabelledClips, LabelledItem
from cavsync.train.data.sampler import EpochSample
from cavsync.train.engine.config import ConfigError
from cavsync.train.finetune.augment import hide_bands, mix_images, mix_mels, smoothed
from cavsync.train.finetune.config import FinetuneConfig

ITEM_STREAM = 12


class TrainingClips(TorchDataset[LabelledItem]):
    """Items with all random changes of a run; indexed by `EpochSample`."""

    def __init__(self, clips: LabelledClips, config: FinetuneConfig) -> None:
        self.clips, self.mixing, self.seed = clips, config.mixing, config.seed
        self.num_frames = config.frames_per_clip or clips.num_frames()

    def __getitem__(self, sample: EpochSample) -> LabelledItem:
        rng = np.random.default_rng((ITEM_STREAM, self.seed, sample.epoch, sample.position))
        frames = self._frames(sample.clip, rng)
        mixture = self._mixture(sample.clip, frames, rng)
        item: LabelledItem = {"target": self._target(mixture), "key": self.clips.store.keys[sample.clip]}
        if self.clips.modality != "image":
            item["audio"] = self._audio(mixture, rng)
        if self.clips.modality != "audio":
            item["image"] = self._image(mixture, rng)
        return item

    def _frames(self, clip: int, rng: np.random.Generator) -> np.ndarray:
        stored = self.clips.store[clip].num_frames
        if self.num_frames > stored:
            raise ConfigError(
                f"frames_per_clip={self.num_frames}, and {self.clips.store.keys[clip]} has {stored}: lower it."
            )
        frames: np.ndarray = np.sort(rng.permutation(stored)[: self.num_frames])
        return frames

    def _mixture(self, clip: int, frames: np.ndarray, rng: np.random.Generator) -> "Mixture":
        whole = Mixture(clip, frames, clip, frames)
        if rng.random() >= self.mixing.mixup_probability:
            return whole
        other = int(rng.integers(len(self.clips)))
        # The other clip may have fewer frames.
        other_frames = np.minimum(frames, self.clips.store[other].num_frames - 1)
        weight = float(rng.beta(self.mixing.mixup_beta, self.mixing.mixup_beta))
        return replace(whole, other=other, other_frames=other_frames, weight=weight)

    def _target(self, mixture: "Mixture") -> torch.Tensor:
        one, other = smoothed(self.clips.targets[[mixture.clip, mixture.other]], self.mixing.label_smoothing)
        return torch.lerp(other, one, mixture.weight)

    def _audio(self, mixture: "Mixture", rng: np.random.Generator) -> torch.Tensor:
        mels = self.clips.mels(mixture.clip, mixture.frames)
        if mixture.weight < 1:
            mels = mix_mels(mels, self.clips.mels(mixture.other, mixture.other_frames), mixture.weight)
        bands, rows = self.mixing.max_masked_bands, self.mixing.max_masked_rows
        if bands or rows:
            mels = torch.stack([hide_bands(mel, bands, rows, rng) for mel in mels])
        windows = self.clips.normalised(mels)
        if self.clips.config.audio_noise:
            windows = torch.stack([noise_and_roll(window, rng) for window in windows])
        return windows

    def _image(self, mixture: "Mixture", rng: np.random.Generator) -> torch.Tensor:
        image = self._images(mixture.clip, mixture.frames, rng)
        if mixture.weight == 1:
            return image
        return mix_images(image, self._images(mixture.other, mixture.other_frames, rng), mixture.weight)

    def _images(self, clip: int, frames: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        stored, side = self.clips.stored_images(clip, frames), self.clips.side
        changed = self.clips.config.image_augmentation
        return torch.stack([crop_and_flip(one, side, rng) if changed else fit(one, side) for one in stored])


@dataclass(frozen=True)
class Mixture:
    """`weight` times one clip plus 1 - `weight` times another; weight 1 is the clip alone."""

    clip: int
    frames: np.ndarray
    other: int
    other_frames: np.ndarray
    weight: float = 1.0
