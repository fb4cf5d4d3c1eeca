"""Models that read the time from an image and from an audio segment, so that every similarity is arithmetic.

A time t becomes the vector (cos a, sin a) with a = 2 pi t / PERIOD_S; the cosine of an image and a segment whose times
are d apart is cos(2 pi d / PERIOD_S): 1 for the right pair, and less the farther they are from each other.
"""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.known_shards import CLIP_ROWS, COLOUR_STEP, NUM_FRAMES, micro_model, read_image
from support.media import read_frame_number, read_time_s
from torch import Tensor, nn

from cavsync.model.output import Encoding
from cavsync.pipeline.dataset.sampling import ROW_CENTRE_S, frame_times_s
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import IMAGE_MEAN, IMAGE_STD
from cavsync.train.data.inputs import CheckpointInputs

PERIOD_S = 40.0


def load_instead(monkeypatch: pytest.MonkeyPatch, model: nn.Module, inputs: DataConfig | None = None) -> None:
    """Makes `model` that of every checkpoint, on `inputs` where they are given."""
    file = SimpleNamespace(training=None, records=lambda: {"model_config": {"of": "the clock"}})
    opened = SimpleNamespace(build=lambda: model, file=file, assumed={})
    module = "cavsync.train.embedding.checkpoint"
    monkeypatch.setattr(f"{module}.open_checkpoint", lambda path, **fields: opened)
    if inputs is not None:
        given = CheckpointInputs(inputs, {})
        monkeypatch.setattr(CheckpointInputs, "of", lambda weights, records, fields: given)


def similarity(apart_s: float | np.ndarray) -> np.ndarray:
    """Of an image and an audio segment that are `apart_s` apart."""
    return np.cos(2 * np.pi * np.asarray(apart_s) / PERIOD_S)


class StandIn(nn.Module):
    """A model of which only the encodings are defined; its embeddings are their global tokens."""

    encode_audio: Callable[[Tensor], Encoding]
    encode_image: Callable[..., Encoding]

    def audio_embedding(self, audio: Tensor) -> Tensor:
        return self.encode_audio(audio).global_token

    def image_embedding(self, image: Tensor, *kept: Tensor) -> Tensor:
        return self.encode_image(image, *kept).global_token


class ShardClock(StandIn):
    """Reads support/known_shards.py's raw images and log-mels. Audio of time t belongs to t - `late_s`.

    With `knows_clips` a second pair of coordinates stands for the clip: foreign pairs lose up to 1 of 2.
    """

    def __init__(self, late_s: float = 0.0, knows_clips: bool = False) -> None:
        super().__init__()
        self.config = micro_model()
        self.late_s, self.knows_clips = late_s, knows_clips
        self.num_windows = 0  # how many were asked for

    def encode_audio(self, audio: Tensor) -> Encoding:
        self.num_windows += len(audio)
        centres_s = (audio[:, 0, 1] + (audio.shape[1] - 1) / 2) / 100 + ROW_CENTRE_S
        return self._vectors(centres_s.tolist(), audio[:, 0, 0].tolist(), -self.late_s)

    def encode_image(self, image: Tensor) -> Encoding:
        clips, frames = zip(*(read_image(raw) for raw in raw_images(image)), strict=True)
        times_s = frame_times_s(CLIP_ROWS / 100, NUM_FRAMES)[list(frames)]
        return self._vectors(times_s, clips, 0.0)

    def _vectors(self, times_s: Sequence[float], clips: Sequence[float], moved_s: float) -> Encoding:
        parts = [_circle((np.asarray(times_s) + moved_s) / PERIOD_S)]
        if self.knows_clips:
            parts.append(_circle(np.asarray(clips) * COLOUR_STEP / 256))
        return _encoding(np.concatenate(parts, axis=1))


class DeafClock(ShardClock):
    """Gives every window one vector, as a collapsed model does."""

    def encode_audio(self, audio: Tensor) -> Encoding:
        return _encoding(np.ones((len(audio), 2)))


class VideoClock(StandIn):
    """Reads the frames and the chirp of support/media.py's clips; `inputs` normalised the log-mels."""

    def __init__(self, inputs: DataConfig, fps: float = 25) -> None:
        super().__init__()
        self.config = micro_model(audio_rows=64)
        self.inputs, self.fps = inputs, fps

    def encode_audio(self, audio: Tensor) -> Encoding:
        assert self.inputs.mel_std is not None
        assert self.inputs.mel_mean is not None
        mels = (audio * self.inputs.mel_std + self.inputs.mel_mean).numpy()
        centres_s = [read_time_s(mel) + (len(mel) - 1) / 200 + ROW_CENTRE_S for mel in mels]
        return _encoding(_circle(np.array(centres_s) / PERIOD_S))

    def encode_image(self, image: Tensor) -> Encoding:
        numbers = [read_frame_number(raw.numpy()) for raw in raw_images(image)]
        return _encoding(_circle(np.array(numbers) / self.fps / PERIOD_S))


def raw_images(image: Tensor) -> Tensor:
    """(n, 3, side, side) normalised images as they were, (n, side, side, 3) in 0-255."""
    mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    return (image.movedim(1, -1) * std + mean) * 255


def _circle(turns: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(2 * math.pi * turns), np.sin(2 * math.pi * turns)], axis=1)


def _encoding(vectors: np.ndarray) -> Encoding:
    tensor = torch.from_numpy(vectors).float()
    return Encoding(tensor, tensor[:, None])
