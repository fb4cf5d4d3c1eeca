"""Samples of one rate in their places on the clip's clock, and the waveform that they give together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.media.audio import resampled


@dataclass(frozen=True)
class Piece:
    """Samples of one rate, zeros where there are none; times are seconds from the clip's start."""

    begins_s: float
    rate_hz: int
    samples: np.ndarray  # (samples,) float32, of stereo (channels, samples)
    present: list[tuple[float, float]]  # [start, stop) of the samples that the file holds

    @property
    def end_s(self) -> float:
        return self.present[-1][1] if self.present else self.begins_s


def joined(runs: Sequence[tuple[float, np.ndarray]], first_s: float, stop_s: float, rate_hz: int) -> Piece:
    """Runs of samples of one rate, each with its time in seconds from the clip's start, as far as they lie in [first_s, stop_s).

    Their samples are (samples,) or, of stereo, (channels, samples).
    """
    base = round(first_s * rate_hz)
    room = np.zeros((*runs[0][1].shape[:-1], round(stop_s * rate_hz) - base), np.float32)
    present: list[tuple[int, int]] = []
    reached = None
    for begins_s, samples in runs:
        first = round(begins_s * rate_hz) - base
        if reached is not None and abs(first - reached) <= 1:
            first = reached
        skipped = max(0, -first, (reached or 0) - first)  # an overlap: what is there stays
        first, samples = first + skipped, samples[..., skipped:]
        num_samples = samples.shape[-1]
        reached = max(reached or first, first + num_samples)
        if num_samples:
            room[..., first : first + num_samples] = samples[..., : max(0, room.shape[-1] - first)]
            is_next = present and first == present[-1][1]
            present[-1:] = [(present[-1][0], reached)] if is_next else [*present[-1:], (first, reached)]
    end = present[-1][1] if present else 0
    times_s = [((base + start) / rate_hz, (base + stop) / rate_hz) for start, stop in present]
    return Piece(base / rate_hz, rate_hz, room[..., :end], times_s)


def at_rate(piece: Piece, rate_hz: int) -> np.ndarray:
    """(samples,) or (channels, samples), as the piece has them."""
    if piece.rate_hz == rate_hz:
        return piece.samples
    if piece.samples.ndim == 1:
        return resampled(piece.samples, piece.rate_hz, rate_hz)
    return np.stack([resampled(channel, piece.rate_hz, rate_hz) for channel in piece.samples])


def filled(waveform: np.ndarray, pieces: Iterable[Piece], rate_hz: int) -> np.ndarray:
    """The (samples,) or (channels, samples) from the clip's start, with those of the pieces put in their places."""
    for piece in pieces:
        samples = at_rate(piece, rate_hz)
        room = waveform[..., round(piece.begins_s * rate_hz) :][..., : samples.shape[-1]]
        room[:] = samples[..., : room.shape[-1]]
    return waveform
