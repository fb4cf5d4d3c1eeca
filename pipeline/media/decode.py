"""Decodes one clip: its frames at chosen instants and its audio, both on the container's clock.

Nothing is counted: a frame is chosen because it is on screen at the wanted instant. A backend (backends/) decodes;
what becomes of its frames and audio is here, once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel, AudioCodec
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import MediaFacts
from cavsync.pipeline.dataset.sampling import frame_times_s, rounded_down
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.audio_file import kept_rate_hz
from cavsync.pipeline.media.audio_track import AudioTrack
from cavsync.pipeline.media.demuxing.clock import Span
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.frame_images import FrameScaler, is_still, jpeg
from cavsync.pipeline.media.frame_selection import SAME_INSTANT_S, TimedFrame

# The streams of healthy files begin some frames apart; a first frame later than this is a gap.
MIN_LEAD_S = 0.1


class Backend(Protocol):
    """A library that decodes an open file.

    Both methods raise MediaError where the library would show frames at other times than the container.
    """

    name: str  # with the version, for the index
    opens_path: bool  # itself, so it needs a file on this machine

    def __init__(self, container: Container) -> None: ...

    # Of the span that was read; times are on the container's clock, and `frames` may correct them.
    @property
    def frames_begin_s(self) -> float:
        """When its first frame comes on screen; infinite without any."""
        ...

    @property
    def frames_end_s(self) -> float:
        """When its last frame leaves the screen."""
        ...

    @property
    def frame_gaps_s(self) -> list[tuple[float, float]]:
        """[start, stop) of the frames that could not be decoded."""
        ...

    @property
    def failure(self) -> str | None:
        """Why something of the span could not be decoded."""
        ...

    def read(self, span: Span, channel: AudioChannel, keeps_stereo: bool = False) -> AudioTrack:
        """Read the span, and decode its audio."""
        ...

    def frames(self, instants: Sequence[float]) -> Iterator[TimedFrame | None]:
        """For each instant of the span that was read, ascending, the frame on screen; None before the first."""
        ...


@dataclass(frozen=True)
class KeptWaveform:
    """Audio to be kept beside the log-mel, from the clip's start to its end."""

    samples: np.ndarray  # (1 or 2, samples) float32
    rate_hz: int
    codec: AudioCodec


@dataclass(frozen=True, kw_only=True)
class DecodedClip:
    """Frames as JPEG and audio; times are seconds from the clip's start."""

    duration_s: float
    frame_pts_s: np.ndarray  # (num_frames,)
    frames: list[bytes]
    waveform: np.ndarray  # (samples,) float32 at 16 kHz, one channel, beginning at the clip's start
    kept_audio: KeptWaveform | None  # None where the configuration keeps none
    still: bool
    orientation: int  # how the stored frames were turned, as in EXIF
    audio_channel: int | None  # that was taken, from 0; None for the mean of all
    audio_gaps_s: list[tuple[float, float]]  # [start, stop) where samples are missing, and 0 in the waveform
    frame_gaps_s: list[
        tuple[float, float]
    ]  # [start, stop) where no frame is on screen, or none could be decoded


class ClipDecoder:
    """An open file and the library that decodes it."""

    def __init__(self, container: Container, backend: Backend) -> None:
        self._container, self._backend = container, backend

    @property
    def facts(self) -> MediaFacts:
        return self._container.facts(self._backend.name)

    def decode(self, start_s: float, duration_s: float, config: PrepareConfig) -> DecodedClip:
        """The clip at [start_s, start_s + duration_s) after the file's start, or as much as the file holds.

        A file that ends earlier gives a shorter clip. Frames are spread over the part of it where there are frames.
        Raises MediaError with the state that the clip ends in.
        """
        self._container.require_both_streams()
        span = Span(self._container.origin_s + start_s, duration_s)
        audio = self._backend.read(span, config.audio_channel, config.keep_audio is not None)
        audio_gaps_s = audio.gaps_s
        end_s = min(duration_s, self._backend.frames_end_s - span.begin_s, audio.end_s)
        lead_s = max(0.0, self._backend.frames_begin_s - span.begin_s)
        audio_lead_s = next((stop_s for begin_s, stop_s in audio_gaps_s if begin_s == 0), 0.0)
        self._require_length(end_s, end_s - max(lead_s, audio_lead_s), config)
        scaler = FrameScaler(self._container.sample_aspect_ratio, config.frame_size, config.crop)
        lead_s, shown = self._shown(span, lead_s, end_s, config, scaler)
        images = [image for _, image in shown]
        lead = [(0.0, lead_s)] if lead_s > MIN_LEAD_S else []
        damaged = [(start - span.begin_s, stop - span.begin_s) for start, stop in self._backend.frame_gaps_s]
        return DecodedClip(
            duration_s=float(end_s),
            frame_pts_s=np.array([begins_s - span.begin_s for begins_s, _ in shown]),
            frames=[jpeg(image, config.jpeg_quality) for image in images],
            waveform=audio.waveform()[: round(end_s * SAMPLE_RATE_HZ)],
            kept_audio=_kept(audio, end_s, config),
            still=is_still(images),
            orientation=scaler.orientation,
            audio_channel=audio.channel,
            audio_gaps_s=merged_gaps_s(audio_gaps_s, end_s),
            frame_gaps_s=merged_gaps_s([*lead, *damaged], end_s),
        )

    def _require_length(self, end_s: float, shared_s: float, config: PrepareConfig) -> None:
        if shared_s >= config.min_duration_s:
            return
        if self._backend.failure is not None:
            raise MediaError(ClipState.DECODE_ERROR, self._backend.failure)
        if end_s <= 0:
            raise MediaError(ClipState.TOO_SHORT, "the file ends before the clip begins")
        held_s = rounded_down(max(0.0, shared_s))
        reason = f"the clip holds {held_s} s of audio and frames, less than {config.min_duration_s:g} s"
        raise MediaError(ClipState.TOO_SHORT, reason)

    def _shown(
        self, span: Span, lead_s: float, end_s: float, config: PrepareConfig, scaler: FrameScaler
    ) -> tuple[float, list[tuple[float, np.ndarray]]]:
        """Since when there are frames, seconds from the clip's start, and those at instants spread from there on.

        A file whose first frames cannot be decoded has them later than it says.
        """
        while end_s - lead_s >= config.min_duration_s:
            usual_s = self._container.frame_duration_s
            spread_s = frame_times_s(end_s - lead_s, config.num_frames, config.frame_times, usual_s)
            instants_s = (span.begin_s + lead_s + spread_s).tolist()
            at_instants = list(frames_at(instants_s, self._backend, self._container, scaler))
            shown = [one for one in at_instants if one is not None]
            if not shown:
                break
            if len(shown) == len(at_instants):
                return lead_s, shown
            lead_s = self._backend.frames_begin_s - span.begin_s
        reason = self._backend.failure or "no frame of the clip could be decoded"
        raise MediaError(ClipState.DECODE_ERROR, reason)


def _kept(audio: AudioTrack, end_s: float, config: PrepareConfig) -> KeptWaveform | None:
    if config.keep_audio is None or config.keep_audio_rate is None:
        return None
    rate_hz = kept_rate_hz(config.keep_audio, config.keep_audio_rate, audio.rate_hz)
    return KeptWaveform(audio.stereo_waveform(rate_hz, end_s), rate_hz, config.keep_audio)


def frames_at(
    instants: Sequence[float], backend: Backend, container: Container, scaler: FrameScaler
) -> Iterator[tuple[float, np.ndarray] | None]:
    """For each instant, ascending, when the frame on screen began, and that frame as RGB (height, width, 3) uint8.

    All times are on the container's clock. A frame that is still on screen is yielded as the same array again, and
    None where no frame has begun.
    """
    last: tuple[float, np.ndarray] | None = None
    for frame in backend.frames(instants):
        container.deadline.check()
        if frame is not None and (last is None or last[0] != frame.begins_s):
            last = frame.begins_s, scaler.rgb(frame.image, frame.turned)
        yield last


def merged_gaps_s(gaps_s: Iterable[tuple[float, float]], end_s: float) -> list[tuple[float, float]]:
    """The [start, stop) of the gaps as far as they lie in [0, end_s), ascending, joined where they touch."""
    merged: list[tuple[float, float]] = []
    for start_s, stop_s in sorted((max(0.0, start_s), min(stop_s, end_s)) for start_s, stop_s in gaps_s):
        if merged and start_s <= merged[-1][1] + SAME_INSTANT_S:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop_s)
        elif start_s < stop_s:
            merged.append((start_s, stop_s))
    return merged
