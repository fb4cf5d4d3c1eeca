"""How long a user waits for a command that does nothing yet, for a small preparation, and for Ctrl-C to end one.

python -m benchmarks.start [--clip FILE] [--rounds N]
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import typer

from benchmarks.support import clips as sample_clips
from benchmarks.support import results, timing
from benchmarks.support.program import PROGRAM, cavsync

NUM_CLIPS = 8
PYTHON, HELP, PREPARE = "python -c pass", "cavsync --help", f"cavsync prepare folder, {NUM_CLIPS} clips"
NUM_MANY = 400
CTRL_C_EARLY, CTRL_C_LATE = "Ctrl-C while Ray starts", "Ctrl-C while shards are made"


def main(clip: Path | None = None, rounds: int = 3) -> None:
    # A script's job in the background ignores Ctrl-C, and hands that on to the runs that are to be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with TemporaryDirectory() as name:
        videos, out = Path(name, "videos"), Path(name, "out")
        video = clip or sample_clips.synthesised() / "medium-1.mp4"
        sample_clips.link(video, videos, NUM_CLIPS)
        actions = {
            PYTHON: partial(subprocess.run, [sys.executable, "-c", "pass"], check=True),
            HELP: partial(cavsync, "--help"),
            PREPARE: partial(_prepare, videos, out),
        }
        costs = timing.in_turns(actions, rounds)
        many = Path(name, "many")
        sample_clips.link(video, many, NUM_MANY)
        ends = {
            CTRL_C_EARLY: [_ctrl_c_s(many, out, _ray_starts) for _ in range(rounds)],
            CTRL_C_LATE: [_ctrl_c_s(many, out, lambda _: any(out.glob("done/*"))) for _ in range(rounds)],
        }
    aims = {PYTHON: "", HELP: "< 0.4 s", PREPARE: "< 3 s"}
    rows = [
        results.Row(
            what=name,
            values=series.wall_s,
            unit="s",
            ratio=timing.ratio(series.wall_s, costs[PYTHON].wall_s),
            to=PYTHON,
            aim=aims[name],
        )
        for name, series in costs.items()
    ]
    rows += [results.Row(what=name, values=values, unit="s", aim="< 2 s") for name, values in ends.items()]
    results.publish("start", "From the command to its end", rows)


def _prepare(videos: Path, out: Path) -> None:
    cavsync("prepare", "folder", videos, "--out", out)
    shutil.rmtree(out)


def _ctrl_c_s(videos: Path, out: Path, moment: Callable[[psutil.Process], bool]) -> float:
    """From Ctrl-C at that moment of a run with two workers to its end."""
    command = [PROGRAM, "prepare", "folder", videos, "--out", out, "--workers", "2", "--shard-size", "8"]
    quiet = subprocess.DEVNULL
    run = psutil.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet)
    while run.poll() is None and not moment(run):
        time.sleep(0.01)
    begun = time.perf_counter()
    os.killpg(run.pid, signal.SIGINT)
    run.wait()
    took_s = time.perf_counter() - begun
    assert run.returncode == 130, f"the run was not interrupted: exit code {run.returncode}"
    shutil.rmtree(out, ignore_errors=True)
    return took_s


def _ray_starts(run: psutil.Process) -> bool:
    return any(child.name() == "raylet" for child in run.children())


if __name__ == "__main__":
    typer.run(main)
