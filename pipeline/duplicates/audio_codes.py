"""Codes of the audio around its onsets: what copies of a recording share, whatever their codec, volume or start.

An onset is where the log-mel rises most within 0.1 s either way, so two copies have it at the same instant of the recording.
Its code is the signs of 64 modulations of the 0.8 s around it: 8 rates over time by 8 over the mel scale. Volume, an equaliser
or a codec's low-pass adds a constant to each band's log-mel, which modulations over time do not see. Audio without
modulation (silence, a steady tone) has no code.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.fft import dct
from scipy.ndimage import maximum_filter1d, uniform_filter1d

# Of the 128: 80 Hz to 5.5 kHz, which codecs of low rates keep.
FIRST_BAND, STOP_BAND = 4, 96
WINDOW_ROWS = 80
NUM_RATES = 8  # over time, and over the mel scale
NEIGHBOUR_ROWS = 10  # an onset rises more than all rows so near
SMOOTHED_ROWS = 5
# Nepers below the loudest value of the clip (39 dB): what is less counts as silence, where codecs differ.
RANGE_NEPERS = 9.0
MIN_RISE = 0.02  # nepers within 60 ms, mean over the bands
# Nepers: root mean square of the modulations of a window that has a code. Below, the code is of noise in float16.
MIN_MODULATION = 0.05


@dataclass(frozen=True)
class AudioCodes:
    """The onsets of a clip, in order of time."""

    rows: np.ndarray  # int32 (onsets,): rows of the log-mel, 100 a second
    codes: np.ndarray  # uint64 (onsets,)


def audio_codes(mel: np.ndarray) -> AudioCodes:
    """The codes of a (rows, 128) log-mel; none of one shorter than 0.8 s."""
    bands = mel[:, FIRST_BAND:STOP_BAND].astype(np.float32)
    if len(bands) < WINDOW_ROWS:
        return AudioCodes(np.zeros(0, np.int32), np.zeros(0, np.uint64))
    np.maximum(bands, bands.max() - RANGE_NEPERS, out=bands)
    onsets = _onsets(bands)
    modulations = _modulations(bands, onsets)
    strength = np.sqrt(np.square(modulations).sum((1, 2)) / (WINDOW_ROWS * bands.shape[1]))
    strong = strength >= MIN_MODULATION
    return AudioCodes(onsets[strong].astype(np.int32), sign_codes(modulations[strong]))


def sign_codes(values: np.ndarray) -> np.ndarray:
    """uint64 (codes,): a bit for each of (codes, 8, 8) values, 1 where it is positive; the first is the highest."""
    bits = np.packbits((values > 0).reshape(len(values), 64), axis=1)
    codes: np.ndarray = bits.view(">u8")[:, 0].astype(np.uint64)
    return codes


def _onsets(bands: np.ndarray) -> np.ndarray:
    """(onsets,): rows of (rows, bands) that have half a window on either side."""
    smooth = uniform_filter1d(bands, SMOOTHED_ROWS, axis=0)
    rise, half = np.zeros(len(bands), np.float32), SMOOTHED_ROWS // 2 + 1
    rise[half:-half] = np.maximum(0, smooth[2 * half :] - smooth[: -2 * half]).mean(1)
    peaks = (rise == maximum_filter1d(rise, 2 * NEIGHBOUR_ROWS + 1)) & (rise > MIN_RISE)
    peaks[: WINDOW_ROWS // 2] = peaks[len(bands) - WINDOW_ROWS // 2 :] = False
    found: np.ndarray = np.flatnonzero(peaks)
    return found


def _modulations(bands: np.ndarray, onsets: np.ndarray) -> np.ndarray:
    """(onsets, rates over time, rates over the mel scale) of the windows of (rows, bands) around the onsets."""
    over_time, over_mel = _bases(bands.shape[1])
    spectra = np.lib.stride_tricks.sliding_window_view(bands @ over_mel, WINDOW_ROWS, axis=0)
    windows = spectra[onsets - WINDOW_ROWS // 2]  # (onsets, rates over the mel scale, window rows)
    return np.swapaxes(windows @ over_time, 1, 2)


@cache
def _bases(num_bands: int) -> tuple[np.ndarray, np.ndarray]:
    """(window rows, 8) and (bands, 8): cosines of 1 to 8 half periods, and of 0 to 7."""
    over_time = dct(np.eye(WINDOW_ROWS), norm="ortho", axis=0)[1 : NUM_RATES + 1].T
    over_mel = dct(np.eye(num_bands), norm="ortho", axis=0)[:NUM_RATES].T
    return over_time.astype(np.float32), over_mel.astype(np.float32)
