"""Joins decoded audio frames to one channel, and to stereo, on the clip's clock, and names what is missing of it.

A recorder's times jitter around its steady stream of samples, and some packets have none. So samples follow one another
as they were recorded, unless their times deviate from that for long: then there is a hole or an overlap, and the
samples after it are at their own times.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import NamedTuple

import av
import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.audio import all_channels, one_channel, stereo
from cavsync.pipeline.media.audio_pieces import Piece, at_rate, filled, joined
from cavsync.pipeline.media.demuxing.clock import Span
from cavsync.pipeline.media.mel import is_silent

# A time that is less off continues the stream. Containers round times (Matroska to 1 ms), one row of log-mel is 10 ms.
TOLERANCE_S = 0.010
# A deviation that is over within this is jitter; web recorders have up to 25 ms of it.
LASTING_S = 0.5
# Times around one that deviates by at most this may be jitter around the same level.
JITTER_S = 0.03
# Times that differ less are one level: the coarsest clocks of containers.
CLOCK_S = 1.5e-3
# What no recorder writes; a broken header's rate would claim gigabytes.
MIN_RATE_HZ, MAX_RATE_HZ = 100, 768_000


class AudioBlock(NamedTuple):
    """Consecutive samples as they were decoded; a tuple, because a clip has hundreds."""

    begins_s: float  # on the container's clock; NaN where the file does not say
    rate_hz: int
    samples: np.ndarray  # (samples,) float32
    others: np.ndarray | None  # (channels - 1, samples) float32: the rest, while all before were silent
    stereo: np.ndarray | None = None  # (1 or 2, samples) float32, where it is wanted
    begins_part: bool = False  # of a file that was joined; its times are its own from here on

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True)
class AudioRun:
    """Blocks of one rate that follow one another without a hole."""

    begins_s: float  # on the container's clock
    blocks: Sequence[AudioBlock]

    @property
    def rate_hz(self) -> int:
        return self.blocks[0].rate_hz


class AudioTrack:
    """One channel of a span, filled frame by frame, and read when it is full; with `keeps_stereo` also its stereo.

    `choice` "first" takes the first channel that is not silent, "mean" the mean of all.
    """

    def __init__(self, span: Span, choice: AudioChannel, keeps_stereo: bool = False) -> None:
        self.start_s, self.duration_s, self.choice = span.begin_s, span.duration_s, choice
        self.keeps_stereo = keeps_stereo
        self.clear()

    def clear(self) -> None:
        self._blocks: list[AudioBlock] = []
        self._is_silent_so_far = self.choice == "first"
        self._pieces: list[Piece] | None = None

    def add(self, frame: av.AudioFrame) -> None:
        """Raises MediaError for a frame with a sample rate that no audio has."""
        if not MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ:
            raise MediaError(ClipState.DECODE_ERROR, f"{frame.sample_rate} Hz is no sample rate of audio")
        samples, others = one_channel(frame, self.choice), None
        if self._is_silent_so_far:
            self._is_silent_so_far = is_silent(samples)
            others = all_channels(frame)[1:] if self._is_silent_so_far else None
        begins_s = math.nan if frame.time is None else frame.time
        # A copy: the decoder's buffer holds all channels.
        both = stereo(frame) if self.keeps_stereo else None
        self._blocks.append(AudioBlock(begins_s, frame.sample_rate, samples.copy(), others, both))

    def append(self, other: "AudioTrack", offset_s: float) -> None:
        """Add what another track holds, `offset_s` later than on its own clock."""
        self._is_silent_so_far &= other._is_silent_so_far
        self._blocks += [
            block._replace(begins_s=block.begins_s + offset_s, begins_part=number == 0)
            for number, block in enumerate(other._blocks)
        ]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added yet."""
        return not self._blocks

    @property
    def channel(self) -> int | None:
        """The number of the channel that is taken, from 0; None for the mean of all."""
        if self.choice != "first":
            return None
        return self._loudest_other() if self._is_silent_so_far else 0

    @property
    def end_s(self) -> float:
        """Where the audio ends, seconds from the clip's start; 0 when there is none."""
        return max([0.0, *(piece.end_s for piece in self._placed())])

    @property
    def gaps_s(self) -> list[tuple[float, float]]:
        """[start, stop) of what is missing before `end_s`, seconds from the clip's start."""
        reached_s, gaps_s = 0.0, []
        for begins_s, end_s in sorted(one for piece in self._placed() for one in piece.present):
            if begins_s > reached_s + TOLERANCE_S:
                gaps_s.append((reached_s, begins_s))
            reached_s = max(reached_s, end_s)
        return gaps_s

    def waveform(self) -> np.ndarray:
        """(samples,) float32 at 16 kHz from the clip's start to the end of its audio, 0 in its gaps."""
        pieces = self._placed()
        if len(pieces) == 1 and pieces[0].begins_s == 0:
            return at_rate(pieces[0], SAMPLE_RATE_HZ)
        end_s = min(self.end_s, self.duration_s)
        return filled(np.zeros(round(end_s * SAMPLE_RATE_HZ), np.float32), pieces, SAMPLE_RATE_HZ)

    @property
    def rate_hz(self) -> int:
        """The sample rate of most of what was added; some codecs find theirs after the first frames."""
        duration_s: dict[int, float] = {}
        for block in self._blocks:
            duration_s[block.rate_hz] = duration_s.get(block.rate_hz, 0.0) + block.duration_s
        return max(duration_s, key=duration_s.__getitem__)

    def stereo_waveform(self, rate_hz: int, end_s: float) -> np.ndarray:
        """(channels, samples) float32 from the clip's start to `end_s`, 0 in its gaps; one channel where all audio has one."""
        num_channels = max(len(block.stereo) for block in self._blocks if block.stereo is not None)
        waveform = np.zeros((num_channels, round(end_s * rate_hz)), np.float32)
        return filled(waveform, self._place(partial(_stereo, num_channels=num_channels)), rate_hz)

    def _loudest_other(self) -> int:
        """The first channel that is not silent, in an audio whose first channel is; that one when all are."""
        rest = [block.others for block in self._blocks if block.others is not None]
        for number in range(min((len(others) for others in rest), default=0)):
            if not all(is_silent(others[number]) for others in rest):
                return number + 1
        return 0

    def _placed(self) -> list[Piece]:
        if self._pieces is None:
            self._pieces = list(self._place(partial(_samples, channel=self.channel)))
        return self._pieces

    def _place(self, samples_of: Callable[[AudioBlock], np.ndarray]) -> Iterator[Piece]:
        reached_s = 0.0
        of_one_rate = groupby(steady_runs(self._blocks), key=lambda run: run.rate_hz)
        for number, (rate_hz, runs) in enumerate(of_one_rate):
            parts = [
                (run.begins_s - self.start_s, np.concatenate([*map(samples_of, run.blocks)], axis=-1))
                for run in runs
            ]
            first_s = 0.0 if number == 0 else max(reached_s, parts[0][0])
            if first_s < self.duration_s:
                piece = joined(parts, first_s, self.duration_s, rate_hz)
                reached_s = max(reached_s, piece.end_s)
                yield piece


def steady_runs(blocks: Sequence[AudioBlock]) -> Iterator[AudioRun]:
    """The blocks in their order, cut where their times leave the stream's level for long, and where the rate changes."""
    ahead_s = np.cumsum([0.0, *(block.duration_s for block in blocks)])[:-1]
    deviations_s = np.array([block.begins_s for block in blocks]) - ahead_s
    level_s, first = math.nan, 0
    for number, (block, deviation_s) in enumerate(zip(blocks, deviations_s.tolist(), strict=True)):
        leaves = abs(deviation_s - level_s) > TOLERANCE_S  # not a block without a time
        is_new = (
            number == 0
            or block.begins_part
            or (leaves and _stays_away(number, level_s, deviations_s, ahead_s))
        )
        if number and (is_new or block.rate_hz != blocks[first].rate_hz):
            yield AudioRun(float(ahead_s[first] + level_s), blocks[first:number])
            first = number
        if is_new:
            level_s = _level_s(number, deviations_s, ahead_s)
    if blocks:
        yield AudioRun(float(ahead_s[first] + level_s), blocks[first:])


def _stays_away(number: int, level_s: float, deviations_s: np.ndarray, ahead_s: np.ndarray) -> bool:
    """Whether the stream's times, which have left the level with block `number`, do not come back soon."""
    soon = deviations_s[_within(number, ahead_s)] - level_s
    is_end = ahead_s[-1] - ahead_s[number] < LASTING_S
    within_s = JITTER_S if is_end else TOLERANCE_S  # at the end too little follows to tell by
    return not bool(np.any(np.abs(soon) <= within_s))


def _level_s(number: int, deviations_s: np.ndarray, ahead_s: np.ndarray) -> float:
    """The deviation around which the times from block `number` on lie."""
    soon = deviations_s[_within(number, ahead_s)]
    soon = soon[~np.isnan(soon)]
    if not len(soon):
        soon = deviations_s[~np.isnan(deviations_s)][:1]
    if not len(soon):
        raise MediaError(ClipState.DECODE_ERROR, "no audio frame has a presentation time")
    near = soon[np.abs(soon - soon[0]) <= JITTER_S]
    is_steady = bool(np.all(np.abs(near[:3] - near[0]) <= CLOCK_S))
    return float(near[0] if is_steady else np.median(near))


def _within(number: int, ahead_s: np.ndarray) -> slice:
    """The blocks from this one on that begin within LASTING_S."""
    return slice(number, int(np.searchsorted(ahead_s, ahead_s[number] + LASTING_S)) + 1)


def _samples(block: AudioBlock, channel: int | None) -> np.ndarray:
    """(samples,) of the channel; silence where a block lacks it."""
    if not channel:
        return block.samples
    if block.others is None or channel > len(block.others):
        return np.zeros_like(block.samples)
    other: np.ndarray = block.others[channel - 1]
    return other


def _stereo(block: AudioBlock, num_channels: int) -> np.ndarray:
    """(num_channels, samples); the only channel of a block on both sides."""
    assert block.stereo is not None
    return (
        block.stereo if len(block.stereo) == num_channels else np.repeat(block.stereo, num_channels, axis=0)
    )
