"""Reads the clips of a split: all their frames, and their whole log-mel."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import fit
from cavsync.train.data.store import open_clips
from cavsync.train.embedding.sliding import AVClip
from cavsync.train.reporting.coverage import Unusable, split_coverage


class SplitClips(TorchDataset[AVClip]):
    """The clips of `data.split` that can be in step at all, in shard order; `coverage` names the others."""

    def __init__(self, dataset: Dataset, data: DataConfig, side: int) -> None:
        self.store = open_clips(data, [dataset])
        self.side, self._num_workers = side, data.num_workers
        flags = dataset.index(data.split, ["silent", "still"])
        self._numbers: list[int] = []
        unusable: list[Unusable] = []
        for number, (silent, still) in enumerate(zip(flags["silent"], flags["still"], strict=True)):
            key = self.store.keys[number]
            if silent:
                unusable.append(Unusable(key, "silent", "no audible audio from beginning to end"))
            elif still:
                unusable.append(Unusable(key, "still", "one image from beginning to end"))
            else:
                self._numbers.append(number)
        listed = split_coverage(dataset, data.split)
        self.coverage = replace(listed, unusable=(*listed.unusable, *unusable))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> AVClip:
        clip = self._numbers[index]
        stored = self.store[clip]
        frames = torch.stack([fit(frame, self.side) for frame in stored.frames()])
        return AVClip(stored.key, frames, stored.frame_pts_s(), stored.mel())

    def read(self) -> Iterator[AVClip]:
        """Every clip once, decoded by the workers that the data's configuration asks for."""
        yield from DataLoader(self, batch_size=None, num_workers=self._num_workers, collate_fn=_unchanged)


def _unchanged(clip: Any) -> Any:
    return clip
