"""The audio prompt of a heatmap, cut into the audio segments that a model takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import SegmentRequest
from cavsync.pipeline.media.mel import FRAME_SAMPLES, SHIFT_SAMPLES, log_mel
from cavsync.train.choices import Windows
from cavsync.train.data.window import WindowRule
from cavsync.train.embedding.checkpoint import LoadedCheckpoint

# Published prompts are cut after 164,200 samples, which give exactly 1024 mel rows.
MAX_PROMPT_S = 164_200 / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class AudioSegments:
    """S segments of one audio, as a model takes them."""

    mel: Tensor  # (S, rows, mels) float32, normalised
    valid: Tensor  # (S, columns) bool: patches along time whose middle holds audio, not padding


@dataclass(frozen=True)
class PromptReader:
    """Reads audio and cuts it into segments as the training of a checkpoint did."""

    rule: WindowRule
    patch_size: int
    windows: Windows = "mean"

    @classmethod
    def of(cls, checkpoint: LoadedCheckpoint, windows: Windows = "mean") -> "PromptReader":
        return cls(checkpoint.window, checkpoint.model.config.patch_size, windows)

    def read(self, path: Path, decoder: DecoderProcess) -> AudioSegments:
        """From the audio of any media file. Raises MediaError where it has none, or nothing but silence."""
        try:
            segment = decoder.read(SegmentRequest(path, 0.0, MAX_PROMPT_S))
        except MediaError as error:
            raise MediaError(error.state, f"{path}: {error.reason}") from error
        if segment.is_silent:
            raise MediaError(ClipState.NO_AUDIO, f"{path} is silent from beginning to end")
        return self.cut(segment.waveform)

    def cut(self, waveform: np.ndarray) -> AudioSegments:
        """From (samples,) at 16 kHz."""
        if len(waveform) < FRAME_SAMPLES:
            reason = f"{len(waveform)} samples of audio are less than one row of a log-mel ({FRAME_SAMPLES})"
            raise MediaError(ClipState.TOO_SHORT, reason)
        num_rows = 1 + (len(waveform) - FRAME_SAMPLES) // SHIFT_SAMPLES
        # Audio shorter than a window is followed by silence, as DenseAV's loader pads it: an input that models know.
        needed = FRAME_SAMPLES + (self.rule.rows - 1) * SHIFT_SAMPLES
        padded = np.pad(waveform, (0, max(0, needed - len(waveform))))
        return self._segments(log_mel(padded), num_rows)

    def cut_mel(self, mel: np.ndarray) -> AudioSegments:
        """From a (rows, mels) log-mel."""
        return self._segments(mel, len(mel))

    def _segments(self, mel: np.ndarray, num_rows: int) -> AudioSegments:
        """From a (rows, mels) log-mel, of which the first `num_rows` rows hold audio."""
        starts = window_starts(num_rows, self.rule.rows, self.windows)
        normalised = torch.stack([self.rule.normalised(mel, start) for start in starts])
        middle = self.patch_size // 2
        middle_rows = torch.tensor(starts)[:, None] + torch.arange(middle, self.rule.rows, self.patch_size)
        return AudioSegments(normalised, middle_rows < num_rows)


def window_starts(num_rows: int, window_rows: int, windows: Windows) -> list[int]:
    """First rows of the fewest evenly spaced windows that cover the audio, or of the one in its middle."""
    last = max(0, num_rows - window_rows)
    if windows == "one":
        return [last // 2]
    num_windows = -(-num_rows // window_rows)
    return [round(start) for start in np.linspace(0, last, num_windows)]
