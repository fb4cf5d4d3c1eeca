"""Log-mel of a waveform, the one that CAV-MAE's published features use, in numpy.

It is what `torchaudio.compliance.kaldi.fbank` returns for htk_compat=True, sample_frequency=16000,
use_energy=False, window_type="hanning", num_mel_bins=128, dither=0.0, frame_shift=10 (tests compare the two);
without torch a worker needs a quarter of the memory.
"""

from functools import cache

import numpy as np

from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, NUM_MELS, SAMPLE_RATE_HZ

FRAME_SAMPLES = 400  # 25 ms
SHIFT_SAMPLES = SAMPLE_RATE_HZ // MEL_ROWS_PER_S
FFT_SAMPLES = 512
PREEMPHASIS = 0.97
LOW_HZ, HIGH_HZ = 20.0, SAMPLE_RATE_HZ / 2
# Audio whose peak is below this (-60 dB of full scale) counts as silent.
SILENT_PEAK = 1e-3
# Rows computed at a time: arrays of this size stay in the cache, and the allocator has them at hand
# (half of the time that 10 s at once take).
ROWS_PER_BLOCK = 128
# Rows of long audio with a mean of their own, 5 minutes: 15 MB of float32.
LONG_ROWS = 30_000
FLOOR = float(np.finfo(np.float32).eps)  # of the energy, so that silence is ln(eps) = -15.94


def is_silent(waveform: np.ndarray) -> bool:
    """Whether (samples,) in [-1, 1] stay within `SILENT_PEAK` of a constant; audio without a sample is silent."""
    return bool(len(waveform) == 0 or waveform.max() - waveform.min() < 2 * SILENT_PEAK)


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(rows, 128) float32 from (samples,) at 16 kHz in [-1, 1]; row r covers samples [160 r, 160 r + 400).

    Raises ValueError below 400 samples, which give no row.
    """
    if len(waveform) < FRAME_SAMPLES:
        raise ValueError(f"{len(waveform)} samples are less than one mel row ({FRAME_SAMPLES} samples)")
    centred = waveform.astype(np.float32) - np.float32(waveform.mean(dtype=np.float64))
    frames = np.lib.stride_tricks.sliding_window_view(centred, FRAME_SAMPLES)[::SHIFT_SAMPLES]
    blocks = range(0, len(frames), ROWS_PER_BLOCK)
    return np.concatenate([_mel_rows(frames[first : first + ROWS_PER_BLOCK]) for first in blocks])


def _mel_rows(frames: np.ndarray) -> np.ndarray:
    """(rows, 128) log-mel of (rows, 400) samples."""
    spectrum = np.fft.rfft(_windowed(frames))
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    # The Nyquist bin lies on the last filter's edge and has no weight.
    mel: np.ndarray = power[:, :-1] @ mel_filters()
    np.maximum(mel, np.float32(FLOOR), out=mel)
    np.log(mel, out=mel)
    return mel


def long_log_mel(waveform: np.ndarray) -> np.ndarray:
    """(rows, 128) float16 from (samples,) of any length, as shards hold it; computed in blocks to bound the memory."""
    num_rows = 1 + (len(waveform) - FRAME_SAMPLES) // SHIFT_SAMPLES
    blocks = []
    for first in range(0, num_rows, LONG_ROWS):
        last = min(first + LONG_ROWS, num_rows) - 1
        samples = waveform[first * SHIFT_SAMPLES : last * SHIFT_SAMPLES + FRAME_SAMPLES]
        blocks.append(log_mel(samples).astype(np.float16))
    return np.concatenate(blocks)


def _windowed(frames: np.ndarray) -> np.ndarray:
    """(rows, 512): 400 samples x[i] - 0.97 x[i-1] about their mean, times the window, then zeros.

    The first sample is its own predecessor.
    """
    padded = np.zeros((len(frames), FFT_SAMPLES), np.float32)
    centred, result = frames - frames.mean(axis=1, keepdims=True), padded[:, :FRAME_SAMPLES]
    np.multiply(centred[:, :-1], np.float32(-PREEMPHASIS), out=result[:, 1:])
    result[:, 1:] += centred[:, 1:]
    np.multiply(centred[:, 0], np.float32(1 - PREEMPHASIS), out=result[:, 0])
    result *= _window()
    return padded


@cache
def _window() -> np.ndarray:
    return np.hanning(FRAME_SAMPLES).astype(np.float32)


@cache
def mel_filters() -> np.ndarray:
    """(256, 128): triangles in mel, their corners equally spaced in mel between 20 Hz and 8 kHz."""
    bins = _mel(np.arange(FFT_SAMPLES // 2) * (SAMPLE_RATE_HZ / FFT_SAMPLES))[:, None]
    corners = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), NUM_MELS + 2)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters: np.ndarray = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return filters


def _mel(hz: np.ndarray | float) -> np.ndarray:
    mel: np.ndarray = 1127.0 * np.log1p(np.asarray(hz) / 700.0)
    return mel
