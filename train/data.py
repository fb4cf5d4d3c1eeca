"""Items of a prepared split: a frame and its mel window, normalised, for training; all of a clip's for scoring."""

from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset import Dataset
from cavsync.pipeline.sampling import cut_window
from cavsync.train.augment import crop_and_flip, noise_and_roll
from cavsync.train.clips import ClipStore, fit
from cavsync.train.config import DataConfig

# ImageNet's statistics of each colour, for pictures in [0, 1].
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

# First words of the seeds, so that the streams of random numbers never coincide.
ITEM_STREAM, ORDER_STREAM, PAIRING_STREAM = 1, 2, 3


class Draw(NamedTuple):
    """Which item is asked for: everything random in it follows from these two and the seed."""

    epoch: int
    clip: int


class Pair(TypedDict):
    """One frame and its window."""

    audio: torch.Tensor  # float32 (rows, 128), normalised
    image: (
        torch.Tensor
    )  # uint8 (side, side, 3); `normalise_images` makes the model's input of it, on the device
    noise_audio: torch.Tensor  # float32 (audio patches,), uniform: decides the masks
    noise_image: torch.Tensor  # float32 (image patches,)
    key: str
    frame: int


class ClipPairsOf(TypedDict):
    """All n frames of one clip and their windows."""

    audio: torch.Tensor  # float32 (n, rows, 128), normalised
    image: torch.Tensor  # uint8 (n, side, side, 3)
    key: str


def resolved(config: DataConfig, dataset: Dataset) -> DataConfig:
    """`config` with what it leaves to the dataset: the statistics, and their mean as padding.

    Runs store this one, so that a model is scored with the statistics it was trained with.
    """
    mean = dataset.summary["mel_mean"] if config.mel_mean is None else config.mel_mean
    std = dataset.summary["mel_std"] if config.mel_std is None else config.mel_std
    pad_value = mean if config.pad_value is None else config.pad_value
    return replace(config, mel_mean=mean, mel_std=std, pad_value=pad_value)


@dataclass(frozen=True)
class WindowRule:
    """How a part of a clip's log-mel becomes an input of `rows` rows."""

    rows: int
    mean: float
    std: float
    pad_value: float

    @classmethod
    def of(cls, config: DataConfig, rows: int) -> "WindowRule":
        """The rule of a resolved `config`."""
        assert config.mel_mean is not None
        assert config.mel_std is not None
        assert config.pad_value is not None
        return cls(rows, config.mel_mean, config.mel_std, config.pad_value)

    def normalised(self, mel: np.ndarray, start: int) -> torch.Tensor:
        """Rows [start, start + rows) of a float16 log-mel, normalised, as float32 (rows, 128)."""
        window = cut_window(mel, start, self.rows, self.pad_value)
        # torch widens float16 three times faster than numpy; it wants to own what it reads.
        return torch.tensor(window).to(torch.float32).sub_(self.mean).mul_(1 / self.std)


class ClipPairs(TorchDataset[Pair]):
    """A random frame of a clip and its window; indexed by `Draw`, so that nothing depends on who asks when."""

    def __init__(self, config: DataConfig, model: ModelConfig, seed: int) -> None:
        dataset = Dataset.open(config.path)
        self.store = ClipStore(dataset, config.split, check_crc=config.check_crc)
        self.config, self.seed = resolved(config, dataset), seed
        self.window = WindowRule.of(self.config, model.audio_rows)
        self.side = model.image_size
        self.num_patches = (model.num_audio_patches, model.num_image_patches)
        self._partner = _partners(len(self.store), seed) if config.pairing == "other-clip" else None

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, draw: Draw) -> Pair:
        rng = np.random.default_rng((ITEM_STREAM, self.seed, *draw))
        frame = int(rng.integers(self.store.num_frames(draw.clip)))
        noise_audio, noise_image = (
            torch.from_numpy(rng.random(count, dtype=np.float32)) for count in self.num_patches
        )
        return {
            "audio": self._audio(draw.clip, frame, rng),
            "image": self._image(draw.clip, frame, rng),
            "noise_audio": noise_audio,
            "noise_image": noise_image,
            "key": self.store.keys[draw.clip],
            "frame": frame,
        }

    def _audio(self, clip: int, frame: int, rng: np.random.Generator) -> torch.Tensor:
        if self._partner is not None:
            # A foreign frame number too: ends of clips are recognisable, so the number alone could be learned.
            clip = int(self._partner[clip])
            frame = int(rng.integers(self.store.num_frames(clip)))
        start = int(self.store.window_starts(clip, self.window.rows, self.config.alignment)[frame])
        mel = self.store.mel_rows(clip, start, start + self.window.rows)
        window = self.window.normalised(mel, 0)
        return noise_and_roll(window, rng) if self.config.audio_noise else window

    def _image(self, clip: int, frame: int, rng: np.random.Generator) -> torch.Tensor:
        picture = self.store.frame(clip, frame)
        return (
            crop_and_flip(picture, self.side, rng)
            if self.config.image_augmentation
            else fit(picture, self.side)
        )


class ClipAllPairs(TorchDataset[ClipPairsOf]):
    """Every frame of a clip and its window, in order of time, without augmentation; indexed by the clip's number."""

    def __init__(self, config: DataConfig, model: ModelConfig) -> None:
        dataset = Dataset.open(config.path)
        self.store = ClipStore(dataset, config.split, check_crc=config.check_crc)
        self.config, self.side = resolved(config, dataset), model.image_size
        self.window = WindowRule.of(self.config, model.audio_rows)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, clip: int) -> ClipPairsOf:
        starts = self.store.window_starts(clip, self.window.rows, self.config.alignment)
        mel = self.store.mel_rows(clip, 0, int(starts.max()) + self.window.rows)
        return {
            "audio": torch.stack([self.window.normalised(mel, start) for start in starts]),
            "image": torch.stack([fit(picture, self.side) for picture in self.store.frames(clip)]),
            "key": self.store.keys[clip],
        }


def normalise_images(images: torch.Tensor) -> torch.Tensor:
    """uint8 (..., height, width, 3) as float32 (..., 3, height, width) with ImageNet's mean and deviation.

    Done on the device of `images`: bytes travel there four times faster than floats.
    """
    mean = torch.tensor(IMAGE_MEAN, device=images.device) * 255
    std = torch.tensor(IMAGE_STD, device=images.device) * 255
    return ((images.to(torch.float32) - mean) / std).movedim(-1, -3)


def _partners(num_clips: int, seed: int) -> np.ndarray:
    """For each clip another one, each used once: a random cycle through all clips."""
    cycle = np.random.default_rng((PAIRING_STREAM, seed)).permutation(num_clips)
    partner = np.empty(num_clips, dtype=np.int64)
    partner[cycle] = np.roll(cycle, 1)
    return partner
