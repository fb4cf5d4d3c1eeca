"""One listed clip: what its plan row says, and what became of it. Loads no decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import IndexRow
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.schema import ClipState


@dataclass(frozen=True)
class PreparedClip:
    """What became of a listed clip; only one in state ok has frames and a log-mel."""

    row: IndexRow  # without the places in the tar
    frames: Sequence[bytes] = ()  # JPEG
    mel: np.ndarray | None = None  # (rows, 128) float16

    @property
    def state(self) -> ClipState:
        return ClipState(self.row.state)


@dataclass(frozen=True)
class ClipRequest:
    """Asks a decoder's process for the clip of a plan row that has a video."""

    row: PlanRow
    config: PrepareConfig

    @property
    def title(self) -> str:
        return f"Clip {self.row.key}"

    @property
    def timeout_s(self) -> float:
        return self.config.clip_timeout_s

    def answer(self) -> PreparedClip:
        from cavsync.pipeline.decoding.clip import prepare_clip

        return prepare_clip(self.row, self.config)


def failed(row: PlanRow, state: ClipState, reason: str) -> PreparedClip:
    return PreparedClip(IndexRow.of(row, state, reason))


def without_video(row: PlanRow) -> PreparedClip | None:
    """The clip, if its row alone says that there is nothing to decode."""
    if row.duplicate:
        return failed(row, ClipState.DUPLICATE, f"{row.key} is listed before, in an earlier row")
    if row.source is None:
        return failed(row, ClipState.MISSING, "no video of this clip was found")
    return None


@dataclass(frozen=True)
class MediaSegment:
    """What a file holds of a span; times are seconds from the file's start."""

    start_s: float
    times_s: tuple[float, ...]  # when the asked pictures came on screen; fewer where the pictures have ended
    pictures: tuple[bytes, ...]  # JPEG
    pictures_end_s: float | None  # the span's end at the latest; None for a file without pictures
    waveform: np.ndarray  # (samples,) float32 at 16 kHz, from `start_s` to the end of its sound
    sound_end_s: float | None  # as `pictures_end_s`

    @property
    def end_s(self) -> float:
        """Where both have ended."""
        return max(self.pictures_end_s or self.start_s, self.sound_end_s or self.start_s)


@dataclass(frozen=True)
class SegmentRequest:
    """Asks a decoder's process for [start_s, start_s + duration_s) of a file, and its pictures at some instants."""

    path: Path
    start_s: float
    duration_s: float
    instants_s: tuple[float, ...]  # ascending
    side: int  # pixels of the pictures' sides, which are cropped to a square
    timeout_s: float = 120.0

    @property
    def title(self) -> str:
        return f"File {self.path}"

    def answer(self) -> MediaSegment:
        from cavsync.pipeline.decoding.span import read_segment

        return read_segment(self)


class Request(Protocol):
    """What is asked of a decoder. It travels as a pickle, and the asking process imports its module."""

    @property
    def title(self) -> str:
        """For messages, such as "Clip abc"."""
        ...

    @property
    def timeout_s(self) -> float: ...

    def answer(self) -> Any:
        """Called in the decoder's process; imports what decodes. May raise MediaError or StoreError."""
        ...
