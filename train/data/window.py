"""Audio segments for the model: cut out of a clip's log-mel, padded where the clip ends, and normalised."""

from dataclasses import dataclass

import numpy as np
import torch

from cavsync.pipeline.dataset.sampling import cut_window
from cavsync.train.data.config import DataConfig


@dataclass(frozen=True)
class WindowRule:
    """How a part of a clip's log-mel becomes an input of `rows` rows."""

    rows: int
    mean: float
    std: float
    pad_value: float

    @classmethod
    def of(cls, config: DataConfig, rows: int) -> "WindowRule":
        """The rule of a resolved `config`."""
        assert config.mel_mean is not None
        assert config.mel_std is not None
        assert config.pad_value is not None
        return cls(rows, config.mel_mean, config.mel_std, config.pad_value)

    def normalised(self, mel: np.ndarray, start: int) -> torch.Tensor:
        """Rows [start, start + rows) of a float16 log-mel, normalised, as float32 (rows, 128)."""
        window = torch.empty(self.rows, mel.shape[1])
        self.write(window, mel, start)
        return window

    def write(self, into: torch.Tensor, mel: np.ndarray, start: int) -> None:
        """Fills float32 (rows, 128) with what `normalised` returns."""
        window = cut_window(mel, start, self.rows, self.pad_value)
        # torch widens float16 three times faster than numpy; it takes no array that is read-only.
        into.copy_(torch.from_numpy(np.require(window, requirements="W"))).sub_(self.mean).mul_(1 / self.std)
