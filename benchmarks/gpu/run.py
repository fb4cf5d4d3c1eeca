"""Section c: a run from shards on a disk: the loader, training, a stop by a signal, its resumption, retrieval scores."""

import importlib
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.gpu import record
from benchmarks.gpu.section import Section
from benchmarks.gpu.shards import write_shards
from benchmarks.gpu.throughput import run_config
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.train.data.config import DataConfig, SourceKind
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.data.sampler import Position
from cavsync.train.embedding.clips import embed_split
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import RunResult, StepMetrics
from cavsync.train.evaluation.retrieval.metrics import retrieve
from cavsync.train.pretrain.config import PretrainConfig, PretrainMonitorConfig
from cavsync.train.pretrain.trainer import open_source, pretrain

# Clips, batch, steps and how often one is logged and saved.
FULL, TOY = (2048, 256, 120, 10, 40), (12, 4, 6, 2, 2)
LOADER_S = 8


class StopAfter(TrainerCallback):
    """Sends SIGTERM once `step` steps are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, metrics: StepMetrics[Any], model: nn.Module, batch: Mapping[str, Any]) -> None:
        if metrics.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    section = Section.from_arguments("run")
    folder = Path(tempfile.mkdtemp())
    try:
        section.record.attempt("a run from shards", partial(_all, section, folder))
    finally:
        shutil.rmtree(folder)


def _all(section: Section, folder: Path) -> None:
    num_clips, batch, steps, log, save = FULL if section.is_full else TOY
    began_s = time.perf_counter()
    data = write_shards(folder / "data", num_clips, section.model.image_size)
    size_mb = sum(tar.stat().st_size for tar in data.glob("shards/*.tar")) / 1e6
    section.record.add(
        "shards synthesised", num_clips, "clips", f"{size_mb:.0f} MB in {time.perf_counter() - began_s:.1f} s"
    )
    cores = len(os.sched_getaffinity(0))
    monitor = PretrainMonitorConfig(every_steps=None, tracker=None, curves=False)
    config = replace(
        run_config(section, batch),
        data=DataConfig(path=str(data), num_workers=cores if section.is_full else 0),
        num_epochs=None,
        num_steps=steps,
        log_every_steps=log,
        checkpoint_every_steps=save,
        monitor=monitor,
        # Where compiling went through in the section before, its kernels are on disk.
        compile=_was_compiled(section),
    )
    attempt = section.record.attempt
    sources: list[SourceKind] = ["index"]
    try:
        importlib.import_module("webdataset")
        sources.append("stream")
    except ModuleNotFoundError:
        section.record.add("stream", note="not measured: webdataset is not installed")
    attempt("training", partial(_train, section, config, folder), needs_s=20)
    for source in sources:
        attempt(f"loader, {source}", partial(_load, section, config, source), needs_s=10)
    attempt("retrieval", partial(_score, section, folder), needs_s=10)


def _load(section: Section, config: PretrainConfig, source: SourceKind) -> None:
    """What the loader makes with nothing else to do on its cores."""
    clips = open_source(replace(config, data=replace(config.data, source=source)))
    position = Position(seed=0, epoch=0, clips_consumed=0)
    with closing(clips.batches(position, Ranks(), section.device)) as batches:
        next(batches)
        began_s, pairs = time.perf_counter(), 0
        while pairs == 0 or time.perf_counter() - began_s < (LOADER_S if section.is_full else 0.2):
            pairs += len(next(batches)["key"])
        elapsed_s = time.perf_counter() - began_s
    workers = config.data.num_workers
    section.record.add(f"loader, {source}, {workers} processes", pairs / elapsed_s, "pairs/s")


def _train(section: Section, config: PretrainConfig, folder: Path) -> None:
    device = "cuda" if section.is_gpu else "cpu"
    run, steps = folder / "run", config.num_steps or 0
    stop = StopAfter(steps * 2 // 3)
    stopped = pretrain(config, run, device=device, callbacks=[stop])
    section.record.add(
        "stopped by SIGTERM", stopped.step, "steps", f"of {steps}; saved {stopped.checkpoint.name}"
    )
    began_s = time.perf_counter()
    result = pretrain(config, run, resume=True, device=device)
    section.record.add(
        "resumed", result.step, "steps", f"complete in {time.perf_counter() - began_s:.1f} s more"
    )
    _add_speed(section, config, result, stopped.step)


def _add_speed(section: Section, config: PretrainConfig, result: RunResult, resumed_at: int) -> None:
    lines = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    # The first lines hold the start of the workers and of the kernels.
    steady = [one for one in lines if 2 * config.log_every_steps < one["step"] <= resumed_at] or lines
    compiled = "compiled" if config.compile else "eager"
    section.record.add(
        f"training from shards, batch {config.batch_size}, {compiled}",
        statistics.median(one["clips_per_s"] for one in steady),
        "clips/s",
        f"{config.data.num_workers} loader processes on {len(os.sched_getaffinity(0))} cores",
        lines=lines,
    )
    section.record.add(
        "the device waits for data",
        100 * statistics.mean(one["data_wait_fraction"] for one in steady),
        "%",
        "aim < 2 %",
    )
    size_gb = result.checkpoint.stat().st_size / 1e9
    section.record.add(
        "training stands still for a checkpoint",
        max(one["checkpoint_stall_s"] for one in lines),
        "s",
        f"of {size_gb:.2f} GB; aim < 0.5 s of 2.3 GB",
    )
    losses = [one["loss"] for one in lines]
    before = [one["loss"] for one in lines if one["step"] <= resumed_at]
    after = [one["loss"] for one in lines if one["step"] > resumed_at]
    section.record.add(
        "loss",
        losses[-1],
        "",
        f"first {losses[0]:.4f}, before the stop {before[-1]:.4f}, after it {after[0]:.4f}",
    )


def _score(section: Section, folder: Path) -> None:
    model = load_model(folder / "run" / "model.safetensors")
    config = DataConfig(path=str(folder / "data"), num_workers=8 if section.is_full else 0)
    clips = ClipAllPairs(config, model.config)
    chosen = clips.store.keys[: 256 if section.is_full else 6]
    began_s = time.perf_counter()
    embedded = embed_split(model, clips, section.device, only=chosen)
    elapsed_s = time.perf_counter() - began_s
    section.record.add(
        "clips embedded for retrieval", len(chosen) / elapsed_s, "clips/s", "16 pairs each, float32"
    )
    scores = retrieve(embedded.audio, embedded.image, "diagonal-mean", device=section.device)
    section.record.add(
        "R@1 audio to video", scores.audio_to_video.recalls[1].value, "%", "of noise: near chance"
    )


def _was_compiled(section: Section) -> bool:
    found = record.read(section.out / "throughput.json")
    return any(one.what.startswith("compiled") and not one.error for one in found)


if __name__ == "__main__":
    main()
