"""Perturbed versions of a clip's log-mel, after the negatives of AV-SyncBench.

Shards hold log-mels, so audio is perturbed there. The perturbations of time put the clip's own rows, of 10 ms, in another order: moved
by whole rows, the log-mel is exactly that of the moved waveform; jitter differs from cut and joined waveforms in the two rows
at each joint, whose 25 ms would hold both sides; a change of speed repeats rows or leaves some out, so pitch stays. The
perturbation of timbre is that of a fixed filter: it changes how the source sounds, and does not replace the source.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, SAMPLE_RATE_HZ
from cavsync.pipeline.media.mel import FFT_SAMPLES, FLOOR, mel_filters

OFFSET, JITTER, SPEED, TIMBRE = "offset", "jitter", "speed", "timbre"
# AV-SyncBench's, each in both directions.
OFFSETS_MS = (50, 100, 200, 300, 500)
# Ours: the text that we read (paper, README and code) does not state the amounts of its other negatives.
JITTERS_MS = (100, 300)
JITTER_PIECE_ROWS = 50
SPEEDS = (0.8, 0.9, 1.1, 1.2)
TILTS_DB = (-6.0, 6.0)  # an octave, around 1 kHz
TILT_PIVOT_HZ = 1000.0
LOG_FLOOR = math.log(FLOOR)


@dataclass(frozen=True)
class Perturbation:
    """One negative of a clip; `amount` is in ms, a ratio of speeds, or dB an octave, positive for later, faster and brighter."""

    negative: str
    amount: float

    @property
    def label(self) -> str:
        """The amount without its direction."""
        if self.negative == SPEED:
            return f"{round(100 * abs(self.amount - 1))} %"
        unit = "dB an octave" if self.negative == TIMBRE else "ms"
        return f"{abs(self.amount):g} {unit}"

    def apply(self, mel: np.ndarray, key: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, mels) float16 of a (rows, mels) log-mel, and (rows,) booleans: which rows have audio to hold."""
        if self.negative == TIMBRE:
            return tilted(mel, self.amount), np.ones(len(mel), bool)
        source = self.source_rows(len(mel), key, seed)
        held = (source >= 0) & (source < len(mel))
        return mel[np.where(held, source, 0)], held

    def source_rows(self, num_rows: int, key: str, seed: int) -> np.ndarray:
        """(rows,) the row of the clip's log-mel that each row becomes; out of its range where the clip has no audio."""
        rows = np.arange(num_rows)
        if self.negative == SPEED:
            faster: np.ndarray = np.rint(rows * self.amount).astype(int)
            return faster
        moved = round(self.amount * MEL_ROWS_PER_S / 1000)
        if self.negative == OFFSET:
            return rows - moved
        random = np.random.default_rng([seed, zlib.crc32(key.encode())])
        jittered: np.ndarray = rows + _jitter(num_rows, moved, random)
        return jittered


def perturbations() -> Iterator[Perturbation]:
    """All that a clip of a split is compared with."""
    yield from (Perturbation(OFFSET, sign * one) for one in OFFSETS_MS for sign in (-1, 1))
    yield from (Perturbation(JITTER, one) for one in JITTERS_MS)
    yield from (Perturbation(SPEED, one) for one in SPEEDS)
    yield from (Perturbation(TIMBRE, one) for one in TILTS_DB)


def _jitter(num_rows: int, moved: int, random: np.random.Generator) -> np.ndarray:
    """(rows,) displacements: each piece of half a second by `moved` rows to a side that is drawn, or to the one that has audio."""
    displacements = np.empty(num_rows, int)
    for start in range(0, num_rows, JITTER_PIECE_ROWS):
        stop = min(start + JITTER_PIECE_ROWS, num_rows)
        sign = random.choice((-1, 1))
        if start + sign * moved < 0 or stop + sign * moved > num_rows:
            sign = -sign
        displacements[start:stop] = sign * moved
    return displacements


def tilted(mel: np.ndarray, db_per_octave: float) -> np.ndarray:
    """A (rows, mels) log-mel through a filter whose gain rises by that much an octave and is 0 dB at 1 kHz, float16.

    What lies at the log-mel's floor, silence, stays there.
    """
    hz = np.maximum(np.arange(FFT_SAMPLES // 2), 1) * (SAMPLE_RATE_HZ / FFT_SAMPLES)
    gains = 10 ** (db_per_octave * np.log2(hz / TILT_PIVOT_HZ) / 10)
    filters = mel_filters()  # (256, 128)
    weights = filters.sum(axis=0)
    # The narrowest filters, at low frequencies, lie between two bins of the spectrum and hold nothing.
    change = np.log(np.divide(gains @ filters, weights, out=np.ones(len(weights)), where=weights > 0))
    loud = np.maximum(mel.astype(np.float32) + change, LOG_FLOOR)
    filtered: np.ndarray = np.where(mel > LOG_FLOOR + 0.01, loud, mel).astype(np.float16)
    return filtered
