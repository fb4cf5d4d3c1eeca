"""What preparing a clip costs, everything included, against decoding it and doing nothing, and against upstream.

python -m benchmarks.prepare [--clips FOLDER] [--rounds N]
"""

import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from benchmarks.support import clips as sample_clips
from benchmarks.support import results, timing, upstream
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.jobs.shard import ShardTask, process_shard
from cavsync.pipeline.media.backends.ffmpeg_program import ffmpeg_path

FLOOR, OURS, UPSTREAM = "ffmpeg -f null", "cavsync, one shard", "upstream, 16 frames and audio"


def main(clips: Path | None = None, rounds: int = 5) -> None:
    config = PrepareConfig()
    timing.use_one_core()
    with TemporaryDirectory() as name, DecoderProcess() as decoder:
        folder = Path(name)
        rows = usable_rows(clips or sample_clips.synthesised(), config, decoder)
        files = [Path(str(row.source)) for row in rows]
        actions = {
            FLOOR: partial(decode_to_nothing, files),
            OURS: partial(prepare_shard, rows, config, decoder, folder / "ours"),
            UPSTREAM: partial(prepare_as_upstream, files, folder / "upstream"),
        }
        costs = timing.in_turns(actions, rounds)
    results.publish("prepare", f"Preparing {len(files)} clips on one core", _rows(costs, len(files)))


def usable_rows(videos: Path, config: PrepareConfig, decoder: DecoderProcess) -> list[PlanRow]:
    """Those that all three can prepare: files with frames and audio."""
    rows = sample_clips.plan_rows(videos, config)
    usable = []
    for row in rows:
        state = decoder.prepare(row, config).state
        if state == ClipState.OK and upstream.reads(Path(str(row.source))):
            usable.append(row)
        else:
            reason = (
                f"its state is {state}"
                if state != ClipState.OK
                else "upstream's OpenCV reads no 16 frames of it"
            )
            typer.echo(f"Left out: {row.source}: {reason}.", err=True)
    return usable


def decode_to_nothing(files: Sequence[Path]) -> None:
    """The floor: one thread decodes both streams and throws them away."""
    for file in files:
        command = [ffmpeg_path(), "-v", "error", "-threads", "1", "-i", file, "-f", "null", "-"]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def prepare_shard(rows: Sequence[PlanRow], config: PrepareConfig, decoder: DecoderProcess, out: Path) -> None:
    """Ours: frames, log-mel, tar, index and hashes, on disk; the decoder's process runs already."""
    task = ShardTask(rows=rows, config=config, paths=DatasetPaths(out))
    record = process_shard(task, decoder, lambda state: None)
    assert record.states == {"ok": len(rows)}
    shutil.rmtree(out)


def prepare_as_upstream(files: Sequence[Path], out: Path) -> None:
    upstream.extract(files, out)
    shutil.rmtree(out)


def _rows(costs: dict[str, timing.Series], num_clips: int) -> list[results.Row]:
    def row(name: str, to: str, aim: str = "") -> results.Row:
        ratio = timing.ratio(costs[name].cpu_s, costs[to].cpu_s)
        values = [seconds / num_clips for seconds in costs[name].cpu_s]
        return results.Row(what=name, values=values, unit="CPU s a clip", ratio=ratio, to=to, aim=aim)

    return [
        row(FLOOR, FLOOR),
        row(OURS, FLOOR, "<= 1.0"),
        row(UPSTREAM, OURS, ">= 4.7"),
    ]


if __name__ == "__main__":
    typer.run(main)
