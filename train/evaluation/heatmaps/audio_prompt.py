"""A sound that asks "where is this?", cut into the windows that a model listens to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.audio_file import read_recording
from cavsync.pipeline.media.mel import FRAME_SAMPLES, log_mel
from cavsync.train.data.config import DataConfig
from cavsync.train.data.pairs import WindowRule
from cavsync.train.evaluation.choices import Windows

# Published prompts are cut after 164,200 samples, which give exactly 1024 mel rows.
MAX_PROMPT_S = 164_200 / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class AudioSegments:
    """W windows of one sound, as a model takes them."""

    mel: Tensor  # (W, rows, mels) float32, normalised
    valid: Tensor  # (W, columns) bool: which patches along time hold sound, not padding


@dataclass(frozen=True)
class PromptReader:
    """Reads sounds the way a model was trained to hear them."""

    rule: WindowRule
    patch_size: int
    windows: Windows = "mean"

    @classmethod
    def of(cls, inputs: DataConfig, model: ModelConfig, windows: Windows) -> "PromptReader":
        return cls(WindowRule.of(inputs, model.audio_rows), model.patch_size, windows)

    def read(self, path: Path) -> AudioSegments:
        """Raises MediaError where the file gives no sound."""
        return self.cut(read_recording(path, MAX_PROMPT_S))

    def cut(self, waveform: np.ndarray) -> AudioSegments:
        """From (samples,) at 16 kHz."""
        if len(waveform) < FRAME_SAMPLES:
            reason = f"{len(waveform)} samples of sound are less than one row of a log-mel ({FRAME_SAMPLES})"
            raise MediaError(ClipState.TOO_SHORT, reason)
        return self.cut_mel(log_mel(waveform))

    def cut_mel(self, mel: np.ndarray) -> AudioSegments:
        """From a (rows, mels) log-mel."""
        starts = window_starts(len(mel), self.rule.rows, self.windows)
        normalised = torch.stack([self.rule.normalised(mel, start) for start in starts])
        first_rows = torch.tensor(starts)[:, None] + torch.arange(0, self.rule.rows, self.patch_size)
        return AudioSegments(normalised, first_rows < len(mel))


def window_starts(num_rows: int, window_rows: int, windows: Windows) -> list[int]:
    """First rows of the fewest evenly spaced windows that cover the sound, or of the one in its middle."""
    last = max(0, num_rows - window_rows)
    if windows == "one":
        return [last // 2]
    num_windows = -(-num_rows // window_rows)
    return [round(start) for start in np.linspace(0, last, num_windows)]
