"""Synthesises the waveform of a clip: its turns over a floor of noise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.timeline import Timeline, Turn

Wave = NDArray[np.floating]  # (samples,)


def sine(phase: Wave) -> Wave:
    wave: Wave = np.sin(phase)
    return wave


def fading(since_s: Wave, time_constant_s: float) -> Wave:
    """Exponential decay from 1 at each onset, (samples,)."""
    envelope: Wave = np.exp(-since_s / time_constant_s)
    return envelope


def mix(*parts: Wave) -> Wave:
    total: Wave = np.sum(parts, axis=0)
    return total


@dataclass(frozen=True)
class Course:
    """Times and pitch of a turn's samples, (samples,) each."""

    times_s: Wave
    pitch_hz: Wave
    rate_hz: int
    random: np.random.Generator

    def phase(self, factor: Wave | float = 1.0) -> Wave:
        """Phase in radians of a tone at `factor` times the pitch, (samples,)."""
        phase: Wave = np.cumsum(self.pitch_hz * factor) * (2 * np.pi / self.rate_hz)
        return phase.astype(np.float32)

    def since_onset_s(self, slowest_hz: float, fastest_hz: float) -> Wave:
        """Seconds since the last of regular onsets, (samples,)."""
        period_s = 1 / self.random.uniform(slowest_hz, fastest_hz)
        since_s: Wave = (self.times_s + self.random.uniform(0, period_s)) % period_s
        return since_s.astype(np.float32)

    def wobble(self, rate_hz: float) -> Wave:
        """A slow sine with a random phase, (samples,)."""
        return sine(2 * np.pi * rate_hz * self.times_s + self.random.uniform(0, 2 * np.pi)).astype(np.float32)

    def noise(self, width_hz: float) -> Wave:
        """Noise below `width_hz`, of about unit variance, (samples,): random values joined by lines."""
        knots = self.random.normal(size=int(len(self.times_s) / self.rate_hz * 2 * width_hz) + 2)
        at = np.linspace(0, len(knots) - 1, len(self.times_s))
        joined: Wave = np.interp(at, np.arange(len(knots)), knots)
        return joined.astype(np.float32)

    def noise_band(self, half_width_hz: float) -> Wave:
        """Noise around the pitch, (samples,)."""
        phase = self.phase()
        sides = self.noise(half_width_hz), self.noise(half_width_hz)
        return mix(sides[0] * sine(phase), sides[1] * sine(phase + np.pi / 2))


Timbre = Callable[[Course], Wave]


def strikes(course: Course) -> Wave:
    """A struck bell: frequency modulation that dies away."""
    since_s = course.since_onset_s(2.2, 2.8)
    clang = 4 * fading(since_s, 0.12) * sine(course.phase(2.76))
    return sine(course.phase() + clang) * fading(since_s, 0.25)


def sweep(course: Course) -> Wave:
    """A siren, .45 octaves up and down at 1.8 Hz: two turning points a period."""
    phase = course.phase(2 ** (0.45 * course.wobble(1.8)))
    return mix(sine(phase), 0.4 * sine(2 * phase), 0.2 * sine(3 * phase))


def plucks(course: Course) -> Wave:
    """Strings: eight harmonics, the higher the sooner gone."""
    since_s, phase = course.since_onset_s(3, 4), course.phase()
    return mix(*(sine(k * phase) * fading(since_s, 1 / (2 + 1.5 * k)) / k for k in range(1, 9)))


def shakes(course: Course) -> Wave:
    return course.noise_band(1100) * fading(course.since_onset_s(5, 6.5), 0.045)


def buzz(course: Course) -> Wave:
    """Fifteen harmonics with a vibrato."""
    phase = course.phase(2 ** (0.06 * course.wobble(5.5)))
    return mix(*(sine(k * phase) / k for k in range(1, 16)))


def chirps(course: Course) -> Wave:
    """90 ms each, rising by more than half."""
    part = np.minimum(course.since_onset_s(5, 7) / 0.09, 1)
    return sine(course.phase(0.8 + 0.5 * part)) * sine(np.pi * part) ** 2


def clicks(course: Course) -> Wave:
    since_s = course.since_onset_s(10, 13)
    return mix(sine(course.phase()), 0.4 * course.noise(4000)) * fading(since_s, 0.008)


def breath(course: Course) -> Wave:
    """A sine in wind, with a tremolo."""
    return mix(sine(course.phase()), 0.12 * course.noise_band(900)) * (1 + 0.45 * course.wobble(5))


def thumps(course: Course) -> Wave:
    """A drum: the pitch drops to its own after each beat."""
    since_s = course.since_onset_s(2.5, 3.2)
    phase = course.phase(1 + 1.6 * fading(since_s, 0.03))
    return mix(sine(phase) * fading(since_s, 0.12), 0.3 * course.noise(900) * fading(since_s, 0.02))


def reed(course: Course) -> Wave:
    """Odd harmonics in tongued notes."""
    since_s, phase = course.since_onset_s(2.4, 3.0), course.phase()
    tongue: Wave = np.minimum(since_s / 0.03, 1) * (0.5 + 0.5 * fading(since_s, 0.2))
    return mix(*(sine(k * phase) / k for k in (1, 3, 5, 7, 9))) * tongue


TIMBRES: dict[str, Timbre] = {
    timbre.__name__: timbre
    for timbre in (strikes, sweep, plucks, shakes, buzz, chirps, clicks, breath, thumps, reed)
}


NOISE_FLOOR_DBFS = (-55.0, -42.0)
# Peaks are clipped to this many times the rms. Clipping lowers the rms, which is then restored; the loudest clicks
# still stay within full scale, which is 4 times -12 dBFS.
MAX_CREST = 3.0


def render_audio(config: WorldConfig, timeline: Timeline, random: np.random.Generator) -> np.ndarray:
    """The audio of a clip, (samples,) float32 in [-1, 1]."""
    times_s = config.sample_times_s
    waveform = _noise_floor(len(times_s), random)
    for turn in timeline.turns:
        inside = slice(*np.searchsorted(times_s, (turn.start_s, turn.end_s)))
        waveform[inside] += render_turn(turn, times_s[inside], config.sample_rate_hz, random)
    clipped: np.ndarray = np.clip(waveform, -1, 1).astype(np.float32)
    return clipped


def render_turn(turn: Turn, times_s: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """One turn at evenly spaced `times_s`, (samples,) float64, at its level and with the fades of its shape."""
    voice = TIMBRES[turn.sounding.timbre](Course(times_s, turn.pitch_hz(times_s), rate_hz, random))
    rms = _rms(voice)
    clipped = np.clip(voice, -MAX_CREST * rms, MAX_CREST * rms)
    faded: np.ndarray = clipped * (_amplitude(turn.level_dbfs) / _rms(clipped)) * turn.presence(times_s)
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
