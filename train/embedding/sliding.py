"""Pictures of a clip or a video, and its sound cut at many places: each picture and each window encoded once.

Axis words: P pictures, W windows, D embedding width. Windows are named by their first row of the log-mel.
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
from cavsync.pipeline.decoding.video import Footage
from cavsync.train.data.images import decode_jpeg, fit
from cavsync.train.data.pairs import WindowRule
from cavsync.train.embedding.encode import unit_frames, unit_segments


@dataclass(frozen=True)
class AVClip:
    """What is seen and heard; times are seconds from the beginning."""

    name: str
    pictures: Tensor  # uint8 (P, side, side, 3)
    times_s: np.ndarray  # (P,)
    mel: np.ndarray  # (rows, mels) float16

    @classmethod
    def of(cls, name: str, footage: Footage, side: int) -> "AVClip":
        """A whole video, for a model that sees `side` x `side`."""
        pictures = [fit(decode_jpeg(bytearray(jpeg)), side) for jpeg in footage.pictures]
        return cls(name, torch.stack(pictures), footage.times_s, footage.mel())


@dataclass(frozen=True)
class WindowEmbeddings:
    """Unit vectors of a medium's pictures, and of windows that slide along its sound."""

    name: str
    times_s: np.ndarray  # (P,) when each picture is on screen
    pictures: np.ndarray  # (P, D)
    starts: np.ndarray  # (W,) first rows, ascending, each once
    windows: np.ndarray  # (W, D)
    own: np.ndarray  # (P,) which of the windows is each picture's own
    unbounded: np.ndarray  # (P,) where that window would begin if the sound had no ends; parts of a row
    last_start: int  # of the last window that lies inside the sound; negative if none does

    @property
    def own_starts(self) -> np.ndarray:
        """(P,) first rows."""
        starts: np.ndarray = self.starts[self.own]
        return starts


@dataclass(frozen=True)
class WindowEncoder:
    """A model, and how sound is cut for it."""

    model: Encoder
    window: WindowRule
    alignment: Alignment
    step_rows: int
    device: torch.device

    def slide(
        self, medium: AVClip, on_window: Callable[[int, int], None] = lambda done, total: None
    ) -> WindowEmbeddings:
        """Each picture's own window, and besides one every `step_rows` rows; EvaluationError on NaN."""
        own_starts = window_starts(medium.times_s, len(medium.mel), self.window.rows, self.alignment)
        last = len(medium.mel) - self.window.rows
        regular = [*range(0, last + 1, self.step_rows), max(last, 0)]
        starts, places = np.unique([*own_starts, *regular], return_inverse=True)
        return WindowEmbeddings(
            name=medium.name,
            times_s=medium.times_s,
            pictures=self._pictures(medium),
            starts=starts,
            windows=self._windows(medium, starts, on_window),
            own=places[: len(own_starts)],
            unbounded=unbounded_starts(medium.times_s, self.window.rows, self.alignment),
            last_start=last,
        )

    def _pictures(self, medium: AVClip) -> np.ndarray:
        # One picture may be on screen at two instants.
        _, firsts, places = np.unique(medium.times_s, return_index=True, return_inverse=True)
        frames = unit_frames(self.model, medium.pictures[firsts], self.device, f"the frames of {medium.name}")
        vectors: np.ndarray = frames.numpy()[places]
        return vectors

    def _windows(
        self, medium: AVClip, starts: np.ndarray, on_window: Callable[[int, int], None]
    ) -> np.ndarray:
        segments = (self.window.normalised(medium.mel, int(start)) for start in starts)
        what = f"the audio of {medium.name}"
        vectors: np.ndarray = unit_segments(
            self.model, segments, self.device, what, lambda done: on_window(done, len(starts))
        ).numpy()
        return vectors


def offset_s(starts: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How many seconds windows at `starts` lie after windows at `other`; arrays of first rows that broadcast."""
    seconds: np.ndarray = (np.asarray(starts, np.float64) - other) / MEL_ROWS_PER_S
    return seconds
