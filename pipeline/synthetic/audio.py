"""The waveform of a clip: its turns over a floor of noise."""

import numpy as np

from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.timbres import TIMBRES, Course
from cavsync.pipeline.synthetic.timeline import Timeline, Turn

NOISE_FLOOR_DBFS = (-55.0, -42.0)
# Peaks are held to this many times the rms. Holding them lowers the rms; made up for, the loudest clicks
# still stay within full scale, which is 4 times -12 dBFS.
MAX_CREST = 3.0


def render_sound(config: WorldConfig, timeline: Timeline, random: np.random.Generator) -> np.ndarray:
    """(samples,) float32 in [-1, 1]."""
    times_s = config.sample_times_s
    waveform = _noise_floor(len(times_s), random)
    for turn in timeline.turns:
        inside = slice(*np.searchsorted(times_s, (turn.start_s, turn.end_s)))
        waveform[inside] += render_turn(turn, times_s[inside], config.sample_rate_hz, random)
    clipped: np.ndarray = np.clip(waveform, -1, 1).astype(np.float32)
    return clipped


def render_turn(turn: Turn, times_s: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """The turn alone at those evenly spaced times, at its own level, faded like its picture."""
    voice = TIMBRES[turn.sounding.timbre](Course(times_s, turn.pitch_hz(times_s), rate_hz, random))
    rms = _rms(voice)
    held = np.clip(voice, -MAX_CREST * rms, MAX_CREST * rms)
    faded: np.ndarray = held * (_amplitude(turn.level_dbfs) / _rms(held)) * turn.presence(times_s)
    return faded


def _noise_floor(num_samples: int, random: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency, by a random slope between white and pink."""
    spectrum = np.fft.rfft(random.normal(size=num_samples))
    tilt = np.arange(1, len(spectrum) + 1) ** (-random.uniform(0, 1) / 2)
    noise = np.fft.irfft(spectrum * tilt, num_samples)
    return noise * (_amplitude(random.uniform(*NOISE_FLOOR_DBFS)) / _rms(noise))


def _amplitude(level_db: float) -> float:
    return float(10 ** (level_db / 20))


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
