"""The log-mel of torchaudio with the settings of the published features."""

import numpy as np
import torch
import torchaudio


def torchaudio_mel(waveform: np.ndarray) -> np.ndarray:
    """(rows, 128) of (samples,) at 16 kHz."""
    signal = torch.from_numpy(waveform)[None]
    mel: np.ndarray = torchaudio.compliance.kaldi.fbank(
        signal - signal.mean(),
        htk_compat=True,
        sample_frequency=16000,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    ).numpy()
    return mel
