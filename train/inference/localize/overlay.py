"""The overlay video of a localisation: the heatmap over each frame, the verdict of its window below, and the audio."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import av
import matplotlib as mpl
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from cavsync.errors import writing_output
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import MediaSegment, SegmentRequest
from cavsync.pipeline.media.encode import Mp4
from cavsync.pipeline.storage.atomic import publish, temporary_name
from cavsync.train.choices import MapMethod
from cavsync.train.data.images import decode_jpeg
from cavsync.train.evaluation.heatmaps.heatmap import upsampled
from cavsync.train.inference.localize.localized_video import LocalizedVideo
from cavsync.train.inference.localize.localizer import MAX_AUDIO_S
from cavsync.train.reporting.images import jpeg

SIDE_PX, STRIP_PX = 448, 36
FPS = 15
# Decoded at a time.
SEGMENT_S = 10
# Threads that paint, beside the one that encodes, and how many frames they may be ahead of it.
NUM_PAINTERS = min(4, os.cpu_count() or 1)
FRAMES_AHEAD = 2 * NUM_PAINTERS
# The heatmap at its highest hides this fraction of the frame.
OPACITY = 0.75
# Percentiles of all cells of the windows that pass, between which the heatmap is scaled: most of a frame is no source.
COLD, HOT = 50.0, 99.5
# The colours of the heatmap, (256, 3) in [0, 255], as they hide a frame where it is highest.
COLOURS = 255 * mpl.colormaps["inferno"](np.arange(256))[:, :3] * OPACITY
DIM = 0.55  # brightness where nothing is found
FOUND, NOTHING, UNKNOWN = "#7ee08a", "#ff8d9c", "#c8d0da"


@dataclass(frozen=True)
class ScaledHeatmaps:
    """The heatmaps of one method in [0, 1], at any time."""

    times_s: np.ndarray  # (K,) of the scored windows, ascending
    cells: np.ndarray  # (K, rows, columns); all 0 where the audio does not come from the frame

    @classmethod
    def of(cls, found: LocalizedVideo, method: MapMethod) -> "ScaledHeatmaps":
        known, passes = found.maps[method][found.is_scored], found.passes[found.is_scored]
        cold, hot = np.percentile(known[passes] if passes.any() else known, (COLD, HOT))
        scaled = np.clip((known - cold) / max(float(hot - cold), 1e-12), 0, 1)
        return cls(found.middles_s[found.is_scored], scaled * passes[:, None, None])

    def at(self, time_s: float) -> np.ndarray:
        """(rows, columns), interpolated between two windows."""
        after = min(int(np.searchsorted(self.times_s, time_s)), len(self.times_s) - 1)
        before = max(0, after - 1)
        gap_s = self.times_s[after] - self.times_s[before]
        weight = 1.0 if gap_s <= 0 else np.clip((time_s - self.times_s[before]) / gap_s, 0, 1)
        mixed: np.ndarray = (1 - weight) * self.cells[before] + weight * self.cells[after]
        return mixed


class Painter:
    """Draws the frames of the overlay, (SIDE_PX + STRIP_PX, SIDE_PX, 3) uint8."""

    def __init__(self, found: LocalizedVideo, method: MapMethod) -> None:
        self._found, self._heatmaps = found, ScaledHeatmaps.of(found, method)
        self._font = ImageFont.load_default(size=17)
        self._middles_s = found.middles_s

    def paint(self, frame: np.ndarray, time_s: float) -> np.ndarray:
        """`frame` is (SIDE_PX, SIDE_PX, 3) uint8."""
        number = int(np.abs(self._middles_s - time_s).argmin())
        heatmap = upsampled(torch.from_numpy(self._heatmaps.at(time_s)), SIDE_PX)[..., None]
        if not self._found.passes[number]:
            heatmap, frame = np.zeros_like(heatmap), frame * DIM
        canvas = Image.new("RGB", (SIDE_PX, SIDE_PX + STRIP_PX), "#10151b")
        canvas.paste(Image.fromarray(mixed(frame, heatmap)))
        text, colour = self.caption(number)
        draw = ImageDraw.Draw(canvas)
        draw.text((10, SIDE_PX + STRIP_PX / 2), text, fill=colour, font=self._font, anchor="lm")
        clock = f"{time_s:.1f} s"
        draw.text((SIDE_PX - 10, SIDE_PX + STRIP_PX / 2), clock, fill=UNKNOWN, font=self._font, anchor="rm")
        return np.array(canvas)

    def caption(self, number: int) -> tuple[str, str]:
        """The caption of a window, and its colour."""
        found, similarity = self._found, self._found.similarity[number]
        if not found.is_scored[number]:
            return "silence" if found.audio is None else "no frame", UNKNOWN
        if found.verdict == "cannot tell" or found.calibration is None:
            return f"similarity {similarity:.2f}", UNKNOWN
        least = found.calibration.threshold
        if found.passes[number]:
            return f"sounds like this: {similarity:.2f} >= {least:.2f}", FOUND
        return f"nothing here sounds like this: {similarity:.2f} < {least:.2f}", NOTHING


def mixed(frame: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """(side, side, 3) uint8 of a (side, side, 3) frame in [0, 255] under a (side, side, 1) heatmap in [0, 1]."""
    levels = np.minimum(heatmap[..., 0] * len(COLOURS), len(COLOURS) - 1).astype(np.uint8)
    painted = np.take(COLOURS, levels, axis=0)  # nearly twice as fast as COLOURS[levels]
    painted *= heatmap
    painted += frame * (1 - OPACITY * heatmap)
    pixels: np.ndarray = painted.astype(np.uint8)
    return pixels


def overlay_poster(found: LocalizedVideo, method: MapMethod) -> bytes:
    """The frame of the overlay at the window that is most similar to the audio, as a JPEG."""
    number = int(np.nanargmax(found.similarity))
    frame = found.frames[number]
    assert frame is not None
    image = Image.open(io.BytesIO(frame)).convert("RGB").resize((SIDE_PX, SIDE_PX))
    painted = Painter(found, method).paint(np.array(image), float(found.middles_s[number]))
    return jpeg(Image.fromarray(painted))


def write_overlay(
    found: LocalizedVideo, method: MapMethod, path: Path, on_second: Callable[[int, int], None]
) -> list[str]:
    """Writes the video atomically; returns what could not be read, where it is black.

    Its audio is what was localised: the video's, or that of the other file, repeated. Frames are decoded, painted and
    encoded beside each other, in order.
    """
    painter, damage = Painter(found, method), []
    temporary = temporary_name(path)
    try:
        size = (SIDE_PX, SIDE_PX + STRIP_PX)
        with (
            writing_output(path, av.error.FFmpegError),
            Mp4(temporary, size, FPS, SAMPLE_RATE_HZ) as video,
            DecoderProcess() as decoder,
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(NUM_PAINTERS) as painters,
        ):
            audio = None if found.audio is None else _read_audio(found.audio, decoder)
            for request, segment in _read_ahead(_requests(found), decoder, reader):
                start_s = request.start_s
                end_s = min(start_s + SEGMENT_S, found.duration_s)
                if isinstance(segment, MediaError):
                    damage.append(f"{start_s:g} to {end_s:.0f} s: {segment.reason}")
                    segment = MediaSegment(start_s, (), (), None, np.zeros(0, np.float32), None)
                video.add_frames(_painted(painter, segment, _instants_s(start_s, end_s), painters))
                video.add_audio(_played_waveform(segment, audio, start_s, end_s))
                on_second(round(end_s), round(found.duration_s))
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return damage


def _requests(found: LocalizedVideo) -> list[SegmentRequest]:
    """The segments of the overlay, in order of time."""
    requests = []
    for start_s in range(0, int(np.ceil(found.duration_s)), SEGMENT_S):
        end_s = min(start_s + SEGMENT_S, found.duration_s)
        instants_s = _instants_s(start_s, end_s)
        requests.append(SegmentRequest(found.video, start_s, end_s - start_s, instants_s, SIDE_PX))
    return requests


def _read_ahead(
    requests: Sequence[SegmentRequest], decoder: DecoderProcess, reader: Executor
) -> Iterator[tuple[SegmentRequest, MediaSegment | MediaError]]:
    """Each request and its segment; the next one is decoded while the caller works on this."""

    def read(request: SegmentRequest) -> MediaSegment | MediaError:
        try:
            return decoder.read(request)
        except MediaError as error:
            return error

    following = reader.submit(read, requests[0])
    for number, request in enumerate(requests):
        segment = following.result()
        if number + 1 < len(requests):
            following = reader.submit(read, requests[number + 1])
        yield request, segment


def _read_audio(audio: Path, decoder: DecoderProcess) -> np.ndarray:
    """(samples,) float32 at 16 kHz, of its beginning."""
    return decoder.read(SegmentRequest(audio, 0.0, MAX_AUDIO_S)).waveform


def _instants_s(start_s: float, end_s: float) -> tuple[float, ...]:
    """When the frames of the overlay between `start_s` and `end_s` are on screen."""
    return tuple(number / FPS for number in range(round(start_s * FPS), round(end_s * FPS)))


def _painted(
    painter: Painter, segment: MediaSegment, instants_s: Sequence[float], painters: Executor
) -> Iterator[np.ndarray]:
    """(SIDE_PX + STRIP_PX, SIDE_PX, 3) uint8 for every instant, in order; black where there is no frame."""
    black = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)

    def painted(time_s: float, content: bytes | None) -> np.ndarray:
        frame = black if content is None else decode_jpeg(bytearray(content)).numpy()
        return painter.paint(frame, time_s)

    waiting: deque[Future[np.ndarray]] = deque()
    for time_s, content in zip_longest(instants_s, segment.frames):
        waiting.append(painters.submit(painted, time_s, content))
        if len(waiting) > FRAMES_AHEAD:
            yield waiting.popleft().result()
    yield from (one.result() for one in waiting)


def _played_waveform(
    segment: MediaSegment, audio: np.ndarray | None, start_s: float, end_s: float
) -> np.ndarray:
    """(samples,) float32 at 16 kHz for [start_s, end_s) of the overlay."""
    first, stop = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
    if audio is not None:
        return audio[np.arange(first, stop) % len(audio)]
    waveform = np.zeros(stop - first, np.float32)
    samples = segment.waveform[: stop - first]
    waveform[: len(samples)] = samples
    return waveform
