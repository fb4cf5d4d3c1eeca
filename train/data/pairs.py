"""Datasets of frames with their log-mel segments: one random pair of each clip for training, all its pairs for scoring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, cast

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import fit
from cavsync.train.data.mixture.datasets import mixed_statistics
from cavsync.train.data.mixture.shares import Shares
from cavsync.train.data.pair_rule import Batch, Clip, Pair, PairRule, SampleIndex, partners
from cavsync.train.data.store import open_clips, shares_of
from cavsync.train.data.window import WindowRule


class ClipPairsOf(TypedDict):
    """All n frames of one clip and their windows."""

    audio: torch.Tensor  # float32 (n, rows, 128), normalised
    image: torch.Tensor  # uint8 (n, side, side, 3)
    key: str


def resolved(config: DataConfig, datasets: Sequence[Dataset], shares: Shares | None = None) -> DataConfig:
    """`config` with what it leaves open: the statistics of the dataset, or of several by their `shares`, the mean as
    padding, alignment by time.

    Runs store this one, so that a model is scored with the statistics it was trained with.
    """
    mean, std = config.mel_mean, config.mel_std
    if mean is None or std is None:
        mean, std = mixed_statistics(datasets, np.ones(1) if shares is None else shares.fractions)
    pad_value = mean if config.pad_value is None else config.pad_value
    return replace(config, mel_mean=mean, mel_std=std, pad_value=pad_value, alignment=config.frame_alignment)


class ClipPairs(TorchDataset[Pair]):
    """A random frame of a clip and its window; indexed by `SampleIndex`, so that items do not depend on the order of reading."""

    def __init__(
        self, config: DataConfig, model: ModelConfig, seed: int, *, contrast_noise: bool = False
    ) -> None:
        datasets = list(map(Dataset.open, config.paths))
        self.store = open_clips(config, datasets, for_training=True)
        self.shares = shares_of(self.store, config)
        self.config = resolved(config, datasets, self.shares)
        self.rule = PairRule(self.config, model, seed, contrast_noise)
        self._partner = partners(len(self.store), seed) if config.pairing == "other-clip" else None

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, sample: SampleIndex) -> Pair:
        batch = self.batch([sample])
        return cast(
            Pair, {name: values[0] for name, values in batch.items()} | {"frame": int(batch["frame"])}
        )

    def batch(self, samples: Sequence[SampleIndex]) -> Batch:
        """The pairs of `samples`, stacked."""
        return self.rule.batch([(sample, *self._clips(sample.clip)) for sample in samples])

    def _clips(self, number: int) -> tuple[Clip, Clip]:
        """The clips that image and audio come from."""
        clip = self.store[number]
        return clip, clip if self._partner is None else self.store[int(self._partner[number])]


class ClipAllPairs(TorchDataset[ClipPairsOf]):
    """Every frame of a clip and its window, in order of time, without augmentation; indexed by the clip's number.

    Of all clips of a split, whatever the configuration leaves out of training.
    """

    def __init__(self, config: DataConfig, model: ModelConfig, datasets: Sequence[Dataset] = ()) -> None:
        """`datasets` are those at `config.paths`, where they are open already."""
        datasets = datasets or list(map(Dataset.open, config.paths))
        self.store = open_clips(config, datasets)
        self.config, self.side = resolved(config, datasets, shares_of(self.store, config)), model.image_size
        self.window = WindowRule.of(self.config, model.audio_rows)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, clip: int) -> ClipPairsOf:
        stored = self.store[clip]
        starts = stored.window_starts(self.window.rows, self.config.frame_alignment)
        mel = stored.mel_rows(0, int(starts.max()) + self.window.rows)
        return {
            "audio": torch.stack([self.window.normalised(mel, start) for start in starts]),
            "image": torch.stack([fit(image, self.side) for image in stored.frames()]),
            "key": stored.key,
        }
