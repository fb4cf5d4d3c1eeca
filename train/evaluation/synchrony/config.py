"""The configuration of synchrony, on a split and on one video alike."""

from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.dataset.sampling import UPSTREAM_ROWS
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.data.config import DataConfig
from cavsync.train.data.window import WindowRule
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.sliding import WindowEncoder
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.synchrony.offsets import MIN_AGREEMENT, offset_grid


@dataclass(frozen=True, kw_only=True)
class SynchronyConfig:
    max_offset_s: float = 5.0
    """The largest shift of the audio, both ways."""
    step_s: float = 0.1
    """Between neighbouring windows, and between neighbouring offsets."""
    tolerance_s: float = 0.25
    """A delay that is estimated this near counts as right."""
    min_agreement: float = MIN_AGREEMENT
    """Below it a delay is not reliable."""
    shifts_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 4.0)
    """Shifts that are to be detected."""
    pairwise: bool = False
    """Whether each clip's audio is also compared with perturbed versions of it."""
    seed: int = 0
    """Draws the clips that the page shows, and the jitter of perturbed audio."""

    def __post_init__(self) -> None:
        if not 1 / MEL_ROWS_PER_S <= self.step_s <= self.max_offset_s:
            raise EvaluationError(
                f"step_s={self.step_s:g} must lie between {1 / MEL_ROWS_PER_S:g} s, one row of the log-mel, and "
                f"max_offset_s={self.max_offset_s:g}."
            )

    @property
    def offsets_s(self) -> np.ndarray:
        """(offsets,) seconds by which the audio is moved, in order."""
        return offset_grid(self.max_offset_s, self.step_s)

    def window_encoder(self, checkpoint: LoadedCheckpoint, data: DataConfig) -> WindowEncoder:
        """The model, with windows as `data` (resolved) cuts them; EvaluationError if it encodes whole clips at once."""
        rows = checkpoint.model.config.audio_rows
        if rows >= UPSTREAM_ROWS:
            raise EvaluationError(
                f"this model encodes {rows / MEL_ROWS_PER_S:g} s of audio at once, a whole clip, so its audio has no segments "
                "that could belong to one frame or another. Synchrony needs a model of shorter windows, such as CAV-MAE Sync."
            )
        step_rows = round(self.step_s * MEL_ROWS_PER_S)
        window = WindowRule.of(data, rows)
        return WindowEncoder(
            checkpoint.model, window, data.frame_alignment, step_rows, checkpoint.device, checkpoint.precision
        )
