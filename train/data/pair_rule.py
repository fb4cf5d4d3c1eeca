"""How a clip becomes a training pair: a random frame, its log-mel segment, and the noise that decides what is masked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
import torch

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.schema import NUM_MELS
from cavsync.train.data.augment import crop_and_flip, noise_and_roll
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import fit
from cavsync.train.data.window import WindowRule

# First words of the seeds, so that the streams of random numbers never coincide.
ITEM_STREAM, ORDER_STREAM, PAIRING_STREAM = 1, 2, 3
CONTRAST_STREAM = 5  # 4 is that of chunks in stream/source.py, 6 and 7 are those of mixture/shares.py
CONTRAST_NOISE = ("contrast_noise_audio", "contrast_noise_image")
"""Entries of a batch, (samples, patches) of the modality: what the noise of a `Pair` is, for a contrast with its own view."""


class SampleIndex(NamedTuple):
    """The index of a training sample: everything random in it follows from epoch, clip and the seed."""

    epoch: int
    clip: int


class Pair(TypedDict):
    """One frame and its window."""

    audio: torch.Tensor  # float16 or float32 (rows, 128), for `normalise_audio`
    image: torch.Tensor  # uint8 (side, side, 3), for `normalise_images`
    noise_audio: torch.Tensor  # float32 (audio patches,), uniform: decides the masks
    noise_image: torch.Tensor  # float32 (image patches,)
    key: str
    frame: int


# Stacked `Pair`s: tensors (samples, ...), "key" as a list.
Batch = dict[str, Any]


class Clip(Protocol):
    """A clip that pairs are read from; `ShardError` where it cannot be read."""

    @property
    def key(self) -> str: ...

    @property
    def num_frames(self) -> int: ...

    def frame(self, frame: int) -> torch.Tensor:
        """The frame as stored, uint8 (height, width, 3)."""
        ...

    def mel_of(self, frame: int, rows: int, alignment: Alignment) -> np.ndarray:
        """The frame's window of the log-mel, float16 (rows, 128); fewer rows where the clip ends."""
        ...


@dataclass(frozen=True)
class PairRule:
    """How clips become pairs. All that is random in a pair follows from the seed and its `SampleIndex`."""

    config: DataConfig
    model: ModelConfig
    seed: int
    contrast_noise: bool = False
    """Batches have the entries CONTRAST_NOISE too. They come from a stream of their own, so all other entries are the
    same with them and without."""

    @cached_property
    def window(self) -> WindowRule:
        return WindowRule.of(self.config, self.model.audio_rows)

    @property
    def audio_dtype(self) -> torch.dtype:
        """As stored, unless random changes make other numbers of it."""
        return torch.float32 if self.config.audio_noise else torch.float16

    def batch(self, samples: Sequence[tuple[SampleIndex, Clip, Clip]]) -> Batch:
        """For each (sample, image clip, audio clip) a random frame and its segment; usually both clips are the same.

        All audio is read before all images: alternating, each would drive the other out of the caches.
        """
        drawn = [self._draw(*one) for one in samples]
        batch = self._allocate(drawn)
        for row, one in enumerate(drawn):
            for name in ("noise_audio", "noise_image"):
                one.rng.random(out=batch[name][row].numpy(), dtype=np.float32)
        for row, one in enumerate(drawn):
            self._write_audio(batch["audio"][row], one)
        for row, one in enumerate(drawn):
            batch["image"][row] = self._image(one)
        return batch | self._contrast_noise([sample for sample, _, _ in samples])

    def bytes_of(self, num_samples: int) -> int:
        """Of the tensors of a batch of so many samples."""
        model = self.model
        audio, image = self.audio_dtype.itemsize * model.audio_rows * NUM_MELS, 3 * model.image_size**2
        noise = 4 * (model.num_audio_patches + model.num_image_patches) * (2 if self.contrast_noise else 1)
        return num_samples * (audio + image + noise + 8)

    def _contrast_noise(self, samples: Sequence[SampleIndex]) -> Batch:
        """Uniform in [0, 1), float32 (samples, patches) of each modality; nothing where it is not wanted."""
        if not self.contrast_noise:
            return {}
        sizes = self.model.num_audio_patches, self.model.num_image_patches
        noise = [torch.empty(len(samples), size) for size in sizes]
        for row, sample in enumerate(samples):
            rng = np.random.default_rng((CONTRAST_STREAM, self.seed, *sample))
            for one in noise:
                rng.random(out=one[row].numpy(), dtype=np.float32)
        return dict(zip(CONTRAST_NOISE, noise, strict=True))

    def _draw(self, sample: SampleIndex, image_clip: Clip, audio_clip: Clip) -> "_Drawn":
        rng = np.random.default_rng((ITEM_STREAM, self.seed, *sample))
        return _Drawn(image_clip, audio_clip, int(rng.integers(image_clip.num_frames)), rng, sample.clip)

    def _allocate(self, drawn: Sequence["_Drawn"]) -> Batch:
        """A batch with keys and frame numbers, and uninitialised tensors."""
        model, size = self.model, len(drawn)
        return {
            "audio": torch.empty(size, model.audio_rows, NUM_MELS, dtype=self.audio_dtype),
            "image": torch.empty(size, model.image_size, model.image_size, 3, dtype=torch.uint8),
            "noise_audio": torch.empty(size, model.num_audio_patches),
            "noise_image": torch.empty(size, model.num_image_patches),
            "key": [one.image_clip.key for one in drawn],
            "frame": torch.tensor([one.frame for one in drawn]),
        }

    def _write_audio(self, into: torch.Tensor, drawn: "_Drawn") -> None:
        clip, frame = drawn.audio_clip, drawn.frame
        if clip is not drawn.image_clip:
            # A foreign frame number too: ends of clips are recognisable, so the number alone could be learned.
            frame = int(drawn.rng.integers(clip.num_frames))
        elif self.config.pairing == "shuffled-segments":
            frame = int(partners(clip.num_frames, self.seed, drawn.number)[frame])
        mel = clip.mel_of(frame, self.window.rows, self.config.frame_alignment)
        window = self.window.cut(mel, 0)
        if self.config.audio_noise:
            window = noise_and_roll(self.window.normalise(window), drawn.rng)
        into.copy_(window)

    def _image(self, drawn: "_Drawn") -> torch.Tensor:
        image, side = drawn.image_clip.frame(drawn.frame), self.model.image_size
        if self.config.image_augmentation:
            return crop_and_flip(image, side, drawn.rng)
        return fit(image, side)


class _Drawn(NamedTuple):
    """A row of a batch in the making."""

    image_clip: Clip
    audio_clip: Clip
    frame: int
    rng: np.random.Generator
    number: int  # of the clip


def partners(count: int, *seeds: int) -> np.ndarray:
    """For each of `count` clips, or frames, another one, each used once: a random cycle through all of them, int (count,).

    With one alone that one, since there is no other.
    """
    cycle = np.random.default_rng((PAIRING_STREAM, *seeds)).permutation(count)
    partner = np.empty(count, dtype=np.int64)
    partner[cycle] = np.roll(cycle, 1)
    return partner
