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

    def cut(self, mel: np.ndarray, start: int) -> torch.Tensor:
        """Rows [start, start + rows) of a float16 log-mel, float16 (rows, 128), not normalised."""
        window = cut_window(mel, start, self.rows, self.pad_value)
        return torch.from_numpy(
            np.require(window, requirements="W")
        )  # torch takes no array that is read-only

    def normalised(self, mel: np.ndarray, start: int) -> torch.Tensor:
        """Rows [start, start + rows) of a float16 log-mel, normalised, as float32 (rows, 128)."""
        return self.normalise(self.cut(mel, start))

    def normalise(self, mel: torch.Tensor) -> torch.Tensor:
        """float16 log-mel of any shape as stored, normalised, as float32."""
        # torch widens float16 three times faster than numpy.
        return mel.float().sub_(self.mean).mul_(1 / self.std)


def normalise_audio(audio: torch.Tensor, config: DataConfig) -> torch.Tensor:
    """The audio of a batch, (samples, rows, 128), as the model takes it: float32, normalised as the resolved `config` says.

    float16 is log-mel as stored, which travels to the device in half of the bytes; float32 is normalised already.
    """
    return WindowRule.of(config, audio.shape[-2]).normalise(audio) if audio.dtype == torch.float16 else audio
