"""One listed clip: what its plan row says, and what became of it. Loads no decoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.schema import ClipState

Row = Mapping[str, Any]  # the columns of PLAN_SCHEMA


@dataclass(frozen=True)
class PreparedClip:
    """What became of a listed clip; only one in state ok has frames and a log-mel."""

    columns: Mapping[str, Any]  # of INDEX_SCHEMA, without those of the tar
    frames: Sequence[bytes] = ()  # JPEG
    mel: np.ndarray | None = None  # (rows, 128) float16

    @property
    def state(self) -> ClipState:
        return ClipState(self.columns["state"])


@dataclass(frozen=True)
class ClipRequest:
    """Asks a decoder's process for the clip of a plan row that has a video."""

    row: Row
    config: PrepareConfig

    @property
    def title(self) -> str:
        return f"Clip {self.row['key']}"

    @property
    def timeout_s(self) -> float:
        return self.config.clip_timeout_s

    def answer(self) -> PreparedClip:
        from cavsync.pipeline.decoding.clip import prepare_clip

        return prepare_clip(self.row, self.config)


def failed(columns: Row, state: ClipState, reason: str) -> PreparedClip:
    return PreparedClip({**columns, "state": state, "reason": reason})


def without_video(row: Row) -> PreparedClip | None:
    """The clip, if its row alone tells that there is nothing to decode."""
    if row["duplicate"]:
        return failed(row, ClipState.DUPLICATE, f"{row['key']} is listed before, in an earlier row")
    if row["source"] is None:
        return failed(row, ClipState.MISSING, "no video of this clip was found")
    return None
