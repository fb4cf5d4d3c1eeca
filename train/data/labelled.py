"""Items that classifiers learn from and are scored on: frames of a clip, their windows, and its classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import default_collate

from cavsync.model.classifier_config import Modality
from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.dataset.sampling import cut_window
from cavsync.train.data.augment import crop_and_flip, noise_and_roll
from cavsync.train.data.balance import Turn
from cavsync.train.data.images import fit
from cavsync.train.data.labels import Labels
from cavsync.train.data.pairs import Batch, WindowRule, resolved
from cavsync.train.data.store import open_clips
from cavsync.train.engine.config import ConfigError, DataConfig
from cavsync.train.finetune.augment import hide_bands, mix_mels, mix_pictures, smoothed
from cavsync.train.finetune.config import FinetuneConfig

ITEM_STREAM = 12
SILENT_ROW = float("-inf")


class Labelled(TypedDict, total=False):
    """n frames of one clip; `audio` or `image` is absent where it is not read."""

    audio: torch.Tensor  # float32 (n, rows, 128), normalised
    image: torch.Tensor  # uint8 (n, side, side, 3)
    target: torch.Tensor  # float32 (classes,)
    key: str


class LabelledClips:
    """Frames and windows of the clips of a split, raw, and their classes."""

    def __init__(self, config: DataConfig, model: ModelConfig, modality: Modality) -> None:
        dataset = Dataset.open(config.path)
        self.store = open_clips(config, dataset)
        self.config, self.modality, self.side = resolved(config, dataset), modality, model.image_size
        self.window = WindowRule.of(self.config, model.audio_rows)
        self.labels = Labels.of(dataset)
        self.where = f"{config.path}, split {config.split!r}"
        self.targets = self.labels.targets(self.store.labels, self.where)

    def __len__(self) -> int:
        return len(self.store)

    def num_frames(self) -> int:
        """Frames of every clip; ConfigError where clips differ, since they then make no batch."""
        counts = {self.store.num_frames(clip) for clip in range(len(self))}
        if len(counts) > 1:
            raise ConfigError(
                f"{self.where} holds clips of {sorted(counts)} frames, which make no batch: set frames_per_clip="
                f"{min(counts)}, or prepare it with one count."
            )
        return counts.pop()

    def mels(self, clip: int, frames: np.ndarray) -> torch.Tensor:
        """(n, rows, 128) raw windows of the frames; rows past the clip's end are -inf."""
        starts = self.store.window_starts(clip, self.window.rows, self.config.alignment)[frames]
        mel = self.store.mel_rows(clip, 0, int(starts.max()) + self.window.rows)
        windows = [cut_window(mel, int(start), self.window.rows, SILENT_ROW) for start in starts]
        return torch.from_numpy(np.stack(windows)).float()

    def normalised(self, mels: torch.Tensor) -> torch.Tensor:
        """Raw windows as the model takes them."""
        filled = mels.masked_fill(mels.isinf(), self.window.pad_value)
        return (filled - self.window.mean) / self.window.std

    def pictures(self, clip: int, frames: np.ndarray) -> list[torch.Tensor]:
        """As stored, uint8 (height, width, 3)."""
        if len(frames) == self.store.num_frames(clip):
            return self.store.frames(clip)
        return [self.store.frame(clip, int(frame)) for frame in frames]


class TrainingClips(TorchDataset[Labelled]):
    """Items with all random changes of a run; indexed by `Turn`."""

    def __init__(self, clips: LabelledClips, config: FinetuneConfig) -> None:
        self.clips, self.mixing, self.seed = clips, config.mixing, config.seed
        self.num_frames = config.frames_per_clip or clips.num_frames()

    def __getitem__(self, turn: Turn) -> Labelled:
        rng = np.random.default_rng((ITEM_STREAM, self.seed, turn.epoch, turn.place))
        frames = self._frames(turn.clip, rng)
        mixture = self._mixture(turn.clip, frames, rng)
        item: Labelled = {"target": self._target(mixture), "key": self.clips.store.keys[turn.clip]}
        if self.clips.modality != "image":
            item["audio"] = self._audio(mixture, rng)
        if self.clips.modality != "audio":
            item["image"] = self._image(mixture, rng)
        return item

    def _frames(self, clip: int, rng: np.random.Generator) -> np.ndarray:
        stored = self.clips.store.num_frames(clip)
        if self.num_frames > stored:
            raise ConfigError(
                f"frames_per_clip={self.num_frames}, and {self.clips.store.keys[clip]} has {stored}: lower it."
            )
        frames: np.ndarray = np.sort(rng.permutation(stored)[: self.num_frames])
        return frames

    def _mixture(self, clip: int, frames: np.ndarray, rng: np.random.Generator) -> "Mixture":
        whole = Mixture(clip, frames, clip, frames)
        if rng.random() >= self.mixing.mixup_share:
            return whole
        other = int(rng.integers(len(self.clips)))
        # The other clip may have fewer frames.
        other_frames = np.minimum(frames, self.clips.store.num_frames(other) - 1)
        share = float(rng.beta(self.mixing.mixup_beta, self.mixing.mixup_beta))
        return replace(whole, other=other, other_frames=other_frames, share=share)

    def _target(self, mixture: "Mixture") -> torch.Tensor:
        one, other = smoothed(self.clips.targets[[mixture.clip, mixture.other]], self.mixing.label_smoothing)
        return torch.lerp(other, one, mixture.share)

    def _audio(self, mixture: "Mixture", rng: np.random.Generator) -> torch.Tensor:
        mels = self.clips.mels(mixture.clip, mixture.frames)
        if mixture.share < 1:
            mels = mix_mels(mels, self.clips.mels(mixture.other, mixture.other_frames), mixture.share)
        bands, rows = self.mixing.max_masked_bands, self.mixing.max_masked_rows
        if bands or rows:
            mels = torch.stack([hide_bands(mel, bands, rows, rng) for mel in mels])
        windows = self.clips.normalised(mels)
        if self.clips.config.audio_noise:
            windows = torch.stack([noise_and_roll(window, rng) for window in windows])
        return windows

    def _image(self, mixture: "Mixture", rng: np.random.Generator) -> torch.Tensor:
        image = self._pictures(mixture.clip, mixture.frames, rng)
        if mixture.share == 1:
            return image
        return mix_pictures(image, self._pictures(mixture.other, mixture.other_frames, rng), mixture.share)

    def _pictures(self, clip: int, frames: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        stored, side = self.clips.pictures(clip, frames), self.clips.side
        changed = self.clips.config.image_augmentation
        return torch.stack([crop_and_flip(one, side, rng) if changed else fit(one, side) for one in stored])


@dataclass(frozen=True)
class Mixture:
    """`share` of one clip and the rest of another; share 1 is the clip alone."""

    clip: int
    frames: np.ndarray
    other: int
    other_frames: np.ndarray
    share: float = 1.0


class WholeClips(TorchDataset[Labelled]):
    """All frames of a clip in order of time, unchanged; indexed by the clip's number."""

    def __init__(self, clips: LabelledClips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, clip: int) -> Labelled:
        frames = np.arange(self.clips.store.num_frames(clip))
        item: Labelled = {"target": self.clips.targets[clip], "key": self.clips.store.keys[clip]}
        if self.clips.modality != "image":
            item["audio"] = self.clips.normalised(self.clips.mels(clip, frames))
        if self.clips.modality != "audio":
            pictures = self.clips.pictures(clip, frames)
            item["image"] = torch.stack([fit(picture, self.clips.side) for picture in pictures])
        return item


def batch_of(items: TorchDataset[Any], turns: Sequence[Any]) -> Batch:
    """`items` at `turns`, one below the other: the tensors with a first axis, "key" as a list."""
    batch: Batch = default_collate([items[turn] for turn in turns])
    return batch
