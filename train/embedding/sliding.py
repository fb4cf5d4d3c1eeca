"""Embeddings of a clip's frames and of windows that slide along its audio; each frame and each window is encoded once.

Axis words: F frames, W windows, D embedding width. Windows are named by their first row of the log-mel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cavsync.model.encoder import Encoder
from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.sampling import unbounded_starts, window_starts
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.data.window import WindowRule
from cavsync.train.embedding.encode import unit_frames, unit_segments
from cavsync.train.engine.config import Precision


@dataclass(frozen=True)
class AVClip:
    """The frames and the log-mel of a clip or a video; times are seconds from its start."""

    name: str
    frames: Tensor  # uint8 (F, side, side, 3)
    times_s: np.ndarray  # (F,)
    mel: np.ndarray  # (rows, mels) float16


@dataclass(frozen=True)
class WindowEmbeddings:
    """Unit vectors of a clip's frames, and of windows that slide along its audio."""

    name: str
    times_s: np.ndarray  # (F,) when each frame is on screen
    frames: np.ndarray  # (F, D)
    starts: np.ndarray  # (W,) first rows, ascending, each once
    windows: np.ndarray  # (W, D)
    own: np.ndarray  # (F,) index of each frame's own window
    unbounded: np.ndarray  # (F,) where that window would begin in audio without ends; fractions of a row
    last_start: int  # of the last window that lies inside the audio; negative if none does

    @property
    def own_starts(self) -> np.ndarray:
        """(F,) first rows of the frames' own windows."""
        starts: np.ndarray = self.starts[self.own]
        return starts


@dataclass(frozen=True)
class WindowEncoder:
    """A model, and how audio is cut for it."""

    model: Encoder
    window: WindowRule
    alignment: Alignment
    step_rows: int
    device: torch.device
    precision: Precision = "float32"

    def encode(
        self, clip: AVClip, on_window: Callable[[int, int], None] = lambda done, total: None
    ) -> WindowEmbeddings:
        """Encodes each frame's own window, and one every `step_rows` rows; EvaluationError on NaN."""
        own_starts = window_starts(clip.times_s, len(clip.mel), self.window.rows, self.alignment)
        last = len(clip.mel) - self.window.rows
        regular = [*range(0, last + 1, self.step_rows), max(last, 0)]
        starts, indices = np.unique([*own_starts, *regular], return_inverse=True)
        return WindowEmbeddings(
            name=clip.name,
            times_s=clip.times_s,
            frames=self.encode_frames(clip),
            starts=starts,
            windows=self.encode_windows(clip, starts, on_window),
            own=indices[: len(own_starts)],
            unbounded=unbounded_starts(clip.times_s, self.window.rows, self.alignment),
            last_start=last,
        )

    def encode_frames(self, clip: AVClip) -> np.ndarray:
        """(F, D) unit vectors."""
        # One frame may be on screen at two instants.
        _, firsts, indices = np.unique(clip.times_s, return_index=True, return_inverse=True)
        what = f"the frames of {clip.name}"
        frames = unit_frames(self.model, clip.frames[firsts], self.device, what, self.precision)
        vectors: np.ndarray = frames.numpy()[indices]
        return vectors

    def encode_windows(
        self,
        clip: AVClip,
        starts: np.ndarray,
        on_window: Callable[[int, int], None] = lambda done, total: None,
    ) -> np.ndarray:
        """(W, D) unit vectors of the windows that begin at (W,) rows."""
        segments = (self.window.normalised(clip.mel, int(start)) for start in starts)
        what = f"the audio of {clip.name}"
        vectors: np.ndarray = unit_segments(
            self.model, segments, self.device, what, lambda done: on_window(done, len(starts)), self.precision
        ).numpy()
        return vectors


def offset_s(starts: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Seconds by which windows at `starts` lie after windows at `other`: arrays of first rows that broadcast."""
    seconds: np.ndarray = (np.asarray(starts, np.float64) - other) / MEL_ROWS_PER_S
    return seconds
