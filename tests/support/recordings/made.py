"""Recordings of random content, each unlike any other, and copies of them by the ffmpeg program.

A recording has a background of its own with a blob that wanders over it, and some six bursts of filtered noise a second.
"""

from pathlib import Path

import av
import numpy as np
from scipy.ndimage import zoom
from scipy.signal import fftconvolve
from support.media import run_ffmpeg

FPS, WIDTH, HEIGHT = 10, 96, 72
SAMPLE_RATE = 16_000
BURSTS_PER_S = 6
FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-crf", "24")


def write_recording(path: Path, seed: int, duration_s: float) -> Path:
    """An mp4 with the recording of that seed."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "threads": "1"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for image in frames(random, round(duration_s * FPS)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        pcm = (waveform(random, duration_s) * 32767).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        sound.sample_rate = SAMPLE_RATE
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return path


def frames(random: np.random.Generator, num: int) -> np.ndarray:
    """uint8 (num, height, width, 3)."""
    background = zoom(random.uniform(30, 220, (6, 8)), (HEIGHT / 6, WIDTH / 8), order=1)
    knots = random.uniform(0.1, 0.9, (num // FPS + 2, 2))  # where the blob is at each second
    times = np.arange(num) / FPS
    rows, columns = (np.interp(times, np.arange(len(knots)), way) for way in knots.T)
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(
        down[None] - rows[:, None, None] * HEIGHT, across[None] - columns[:, None, None] * WIDTH
    )
    grey = np.where(distance < HEIGHT / 4, 255 - background, background)
    return np.repeat(grey[..., None], 3, axis=3).astype(np.uint8)


def waveform(random: np.random.Generator, duration_s: float) -> np.ndarray:
    """float (samples,) at 16 kHz, peak 0.7."""
    sound = 0.002 * random.normal(size=round(duration_s * SAMPLE_RATE))
    for start in random.integers(0, len(sound), round(BURSTS_PER_S * duration_s)):
        length = int(random.integers(1_000, 6_000))
        burst = fftconvolve(random.normal(size=length), random.normal(size=random.integers(2, 40)), "same")
        burst *= np.exp(-np.arange(length) / (0.2 * length)) * random.uniform(0.1, 1)
        part = sound[start : start + length]
        part += burst[: len(part)] / np.abs(burst).max()
    return 0.7 * sound / np.abs(sound).max()


def copy(source: Path, path: Path, *options: str, start_s: float = 0.0, audio: Path | None = None) -> Path:
    """The source from `start_s` on, encoded again with the options of ffmpeg; with the audio of another file if one is given."""
    sources = ("-ss", str(start_s), "-i", source, *(() if audio is None else ("-i", audio, "-shortest")))
    streams = ("-map", "0:v", "-map", "0:a" if audio is None else "1:a")
    run_ffmpeg(*sources, *streams, *FAST, "-c:a", "aac", "-b:a", "48k", *options, path)
    return path
