"""Section d: embeddings, of files too, heatmaps and retrieval by `max` on the device."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.files import WHAT, embed_files
from benchmarks.gpu.section import Section
from benchmarks.gpu.throughput import new_model
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.embedding.encode import unit_frames, unit_segments
from cavsync.train.engine.config import Precision
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments
from cavsync.train.evaluation.heatmaps.heatmap import HeatmapModel, MapConfig
from cavsync.train.evaluation.retrieval.metrics import retrieve
from cavsync.train.evaluation.retrieval.similarity import AGGREGATIONS

WINDOWS, IMAGES, CLIPS, PAIRS = 1024, 32, 1545, 16
TOY_WINDOWS, TOY_IMAGES, TOY_CLIPS = 4, 1, 20
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def main() -> None:
    section = Section.from_arguments("inference")
    model, attempt = new_model(section).eval(), section.record.attempt
    precisions = PRECISIONS if section.is_gpu else PRECISIONS[:1]
    for precision in precisions:
        attempt(f"embed, {precision}", partial(_embed, section, model, precision), needs_s=8)
        attempt(f"heatmaps, {precision}", partial(_heatmaps, section, model, precision), needs_s=8)
    attempt(WHAT, partial(embed_files, section, model, precisions[::-1]), needs_s=20)
    for aggregation in AGGREGATIONS:
        attempt(f"retrieval, {aggregation}", partial(_retrieve, section, aggregation), needs_s=5)


def _embed(section: Section, model: CavMaeSync, precision: Precision) -> None:
    """Windows and frames that are decoded already, each window half a window after the one before."""
    config, count = model.config, WINDOWS if section.is_full else TOY_WINDOWS
    side = config.image_size
    frames = torch.randint(256, (count, side, side, 3), dtype=torch.uint8)
    segments = torch.randn(count, config.audio_rows, config.num_mels)

    def work() -> None:
        unit_frames(model, frames, section.device, precision=precision)
        unit_segments(model, segments, section.device, precision=precision)

    seconds = _seconds(section, work)
    step_s = config.audio_rows / 2 / MEL_ROWS_PER_S
    section.record.add(
        f"embed, {precision}",
        count * step_s / seconds,
        "x real time",
        f"{count / seconds:.0f} windows with their frames a second; decoding not included",
    )


def _heatmaps(section: Section, model: CavMaeSync, precision: Precision) -> None:
    config, count = model.config, IMAGES if section.is_full else TOY_IMAGES
    maps = HeatmapModel(model, MapConfig(repeats=24 if section.is_full else 2), section.device, precision)
    columns = config.audio_rows // config.patch_size
    segments = AudioSegments(
        torch.randn(1, config.audio_rows, config.num_mels), torch.ones(1, columns, dtype=torch.bool)
    )
    images = torch.randint(256, (count, config.image_size, config.image_size, 3), dtype=torch.uint8)
    for method, goal in (("masked-view", "aim >= 100"), ("denseav", "")):

        def work(method: str = method) -> None:
            audio = maps.encode_audio(segments)
            for image in images:
                maps.encode_image(image, method).heatmap(audio)  # type: ignore[arg-type]

        seconds = _seconds(section, work)
        note = f"{len(maps.views)} views of an image; {goal}" if goal else ""
        section.record.add(f"heatmaps, {method}, {precision}", count / seconds, "images/s", note)


def _retrieve(section: Section, aggregation: str) -> None:
    count, width = (CLIPS if section.is_full else TOY_CLIPS), section.model.embed_dim
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(count, PAIRS, width, generator=generator).half()
    image: Tensor = (audio + torch.randn(audio.shape, generator=generator)).half()
    found: list[float] = []

    def work() -> None:
        scores = retrieve(audio, image, aggregation, device=section.device)  # type: ignore[arg-type]
        found.append(scores.audio_to_video.recalls[1].value)

    seconds = _seconds(section, work)
    note = f"both directions, R@1 {found[-1]:.3g} %"
    section.record.add(f"retrieval of {count} clips, {aggregation}", seconds, "s", note)


def _seconds(section: Section, work: Callable[[], None]) -> float:
    """Of a second call; the first one finds kernels."""
    if section.is_gpu:
        work()
    section.wait()
    began_s = time.perf_counter()
    work()
    section.wait()
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
