"""`cavsync embed`, `search` and `localize` on known clips, with a model that reads the time from image and audio."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from support.clock_models import PERIOD_S, VideoClock
from support.known_shards import micro_model
from support.media import Waveform
from torch import Tensor

from cavsync.model.output import Encoding
from cavsync.train.data.inputs import PUBLISHED_INPUTS

WINDOW_S, STEP_S = 0.64, 0.32
EMBED_DIM = micro_model().embed_dim


class OwnClock(VideoClock):
    """A VideoClock as wide as its configuration asks: the time is in the first two coordinates."""

    def __init__(self, fps: float = 25) -> None:
        super().__init__(PUBLISHED_INPUTS, fps)

    def encode_audio(self, audio: Tensor) -> Encoding:
        return _widened(super().encode_audio(audio))

    def encode_image(self, image: Tensor) -> Encoding:
        return _widened(super().encode_image(image))


def read_times_s(vectors: pd.Series) -> np.ndarray:
    """The times, in seconds, that (clips,) embeddings stand for."""
    stacked = np.stack(list(vectors))
    turns: np.ndarray = np.arctan2(stacked[:, 1], stacked[:, 0]) / (2 * math.pi)
    return turns % 1 * PERIOD_S


def table_of(path: Path) -> pd.DataFrame:
    """As plain pandas reads it."""
    return pd.read_parquet(path)


def metadata_of(path: Path) -> dict[bytes, bytes]:
    metadata: dict[bytes, bytes] = pq.read_schema(path).metadata
    return metadata


def from_second(first_s: float, waveform: Waveform) -> Waveform:
    """`waveform`, silent before `first_s`."""

    def later(times_s: np.ndarray) -> np.ndarray:
        return np.where(times_s >= first_s, waveform(times_s), 0.0)

    return later


def _widened(encoding: Encoding) -> Encoding:
    narrow = encoding.global_token
    wide = torch.zeros(len(narrow), EMBED_DIM)
    wide[:, :2] = narrow
    return Encoding(wide, wide[:, None])
