"""Items that classifiers are trained and scored on: frames of a clip, their audio segments, and its classes."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import default_collate

from cavsync.model.classifier_config import Modality
from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.dataset.sampling import cut_window
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import fit
from cavsync.train.data.labelled.labels import Labels
from cavsync.train.data.mixture.joined import JoinedClips
from cavsync.train.data.pair_rule import Batch
from cavsync.train.data.pairs import resolved
from cavsync.train.data.store import open_clips, shares_of
from cavsync.train.data.window import WindowRule
from cavsync.train.engine.config import ConfigError

SILENT_ROW = float("-inf")


class LabelledItem(TypedDict, total=False):
    """n frames of one clip; `audio` or `image` is absent where it is not read."""

    audio: torch.Tensor  # float32 (n, rows, 128), normalised
    image: torch.Tensor  # uint8 (n, side, side, 3)
    target: torch.Tensor  # float32 (classes,)
    key: str


class LabelledClips:
    """Frames and audio segments of the clips of a split, not normalised, and their classes."""

    def __init__(
        self,
        config: DataConfig,
        model: ModelConfig,
        modality: Modality,
        datasets: Sequence[Dataset] = (),
        *,
        for_training: bool = False,
    ) -> None:
        """`datasets` are those at `config.paths`, where they are open already.

        What `config` chooses clips by holds `for_training` only.
        """
        datasets = datasets or list(map(Dataset.open, config.paths))
        self.store = open_clips(config, datasets, for_training=for_training)
        self.shares = shares_of(self.store, config)
        self.config = resolved(config, datasets, self.shares)
        self.modality, self.side = modality, model.image_size
        self.window = WindowRule.of(self.config, model.audio_rows)
        self.labels = Labels.shared(datasets)
        self.where = config.named
        self.targets = self.labels.targets(self.store.labels, self.where)

    def __len__(self) -> int:
        return len(self.store)

    def num_repeated_keys(self) -> int:
        """How many clips have the key of a clip in an earlier dataset."""
        return self.store.num_repeated_keys() if isinstance(self.store, JoinedClips) else 0

    def num_frames(self) -> int:
        """Frames of every clip; ConfigError where clips differ, since they then make no batch."""
        counts = self.store.frame_counts()
        if len(counts) > 1:
            raise ConfigError(
                f"{self.where} holds clips of {counts} frames, which make no batch: set frames_per_clip="
                f"{min(counts)}, or prepare it with one count."
            )
        return counts.pop()

    def mels(self, clip: int, frames: np.ndarray) -> torch.Tensor:
        """float32 (n, rows, 128): the raw log-mel segments of n `frames`; rows past the clip's end are -inf."""
        stored = self.store[clip]
        starts = stored.window_starts(self.window.rows, self.config.frame_alignment)[frames]
        mel = stored.mel_rows(0, int(starts.max()) + self.window.rows)
        windows = [cut_window(mel, int(start), self.window.rows, SILENT_ROW) for start in starts]
        return torch.from_numpy(np.stack(windows)).float()

    def normalised(self, mels: torch.Tensor) -> torch.Tensor:
        """Raw log-mel segments (..., rows, 128), normalised as the model takes them, in the same shape."""
        filled = mels.masked_fill(mels.isinf(), self.window.pad_value)
        return (filled - self.window.mean) / self.window.std

    def stored_images(self, clip: int, frames: np.ndarray) -> list[torch.Tensor]:
        """The images of n `frames` as stored, each uint8 (height, width, 3)."""
        stored = self.store[clip]
        if len(frames) == stored.num_frames:
            return stored.frames()
        return [stored.frame(int(frame)) for frame in frames]


class WholeClips(TorchDataset[LabelledItem]):
    """All frames of a clip in order of time, unchanged; indexed by the clip's number."""

    def __init__(self, clips: LabelledClips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, clip: int) -> LabelledItem:
        frames = np.arange(self.clips.store[clip].num_frames)
        item: LabelledItem = {"target": self.clips.targets[clip], "key": self.clips.store.keys[clip]}
        if self.clips.modality != "image":
            item["audio"] = self.clips.normalised(self.clips.mels(clip, frames))
        if self.clips.modality != "audio":
            images = self.clips.stored_images(clip, frames)
            item["image"] = torch.stack([fit(image, self.clips.side) for image in images])
        return item


def collate(items: TorchDataset[Any], samples: Sequence[Any]) -> Batch:
    """`items` at `samples`, stacked: tensors (samples, ...), "key" as a list."""
    batch: Batch = default_collate([items[sample] for sample in samples])
    return batch
