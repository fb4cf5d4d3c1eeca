"""Video files embedded on the device while processes decode them: the work of `cavsync embed`, without Ray."""

import importlib
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gpu.section import Section
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.train.data.inputs import PUBLISHED_INPUTS
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder
from cavsync.train.engine.config import Precision

WHAT = "embed with decoding"
START_S = 60.0


@dataclass(frozen=True)
class Video:
    """The size of the file that is embedded again and again."""

    seconds: int
    width: int
    height: int
    fps: int = 25


FULL, TOY = Video(60, 640, 360), Video(2, 96, 64)


def embed_files(section: Section, model: CavMaeSync, precisions: Sequence[Precision]) -> None:
    """One file for each core at the same time, each decoded by a process of its own and embedded by a thread of this."""
    video = FULL if section.is_full else TOY
    try:
        importlib.import_module("av")
    except ModuleNotFoundError:
        section.record.add(WHAT, note="not measured: av is not installed")
        return
    cores = len(os.sched_getaffinity(0)) if section.is_full else 1
    weights = Path("random")  # of no file
    with tempfile.TemporaryDirectory() as folder:
        path = _written(video, Path(folder, "noise.mp4"))
        for precision in precisions:
            checkpoint = LoadedCheckpoint(model, PUBLISHED_INPUTS, weights, section.device, precision)
            num_windows, seconds = _embedded(Embedder(checkpoint), path, cores)
            section.record.add(
                f"{WHAT}, {precision}",
                cores * video.seconds / seconds,
                "x real time",
                f"{cores} files of {video.seconds} s, {video.width} x {video.height}, by as many decoders on "
                f"{len(os.sched_getaffinity(0))} cores; {num_windows / seconds:.0f} windows a second; aim >= 50",
            )


def _embedded(embedder: Embedder, path: Path, count: int) -> tuple[int, float]:
    """Windows of `count` times the file, and the seconds that they took once all decoders had started."""
    started = threading.Barrier(count + 1, timeout=START_S)

    def embed() -> int:
        with DecoderProcess() as decoder:
            embedder.embed(path, decoder)  # starts the decoder, and finds the device's kernels
            started.wait()
            return len(embedder.embed(path, decoder).start_s)

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(embed) for _ in range(count)]
        started.wait()
        began_s = time.perf_counter()
        num_windows = sum(one.result() for one in running)
        return num_windows, time.perf_counter() - began_s


def _written(video: Video, path: Path) -> Path:
    """A file with a moving picture of noise, and noise as its audio."""
    from cavsync.pipeline.media.encode import Mp4

    random = np.random.default_rng(0)
    coarse = random.integers(256, size=(video.height // 16 + 1, video.width // 16 + 1, 3), dtype=np.uint8)
    picture = coarse.repeat(16, axis=0).repeat(16, axis=1)[: video.height, : video.width]
    with Mp4(path, (video.width, video.height), video.fps, SAMPLE_RATE_HZ) as file:
        for _ in range(video.seconds):
            file.add_frames(np.roll(picture, 2 * number, axis=1) for number in range(video.fps))
            file.add_audio(random.uniform(-0.3, 0.3, SAMPLE_RATE_HZ).astype(np.float32))
    return path
