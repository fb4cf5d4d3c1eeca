"""How long a user waits for a command that does nothing yet, and for a small preparation.

python -m benchmarks.start [--clip FILE] [--rounds N]
"""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from benchmarks import footage, results, timing
from benchmarks.program import cavsync

NUM_CLIPS = 8
PYTHON, HELP, PREPARE = "python -c pass", "cavsync --help", f"cavsync prepare folder, {NUM_CLIPS} clips"


def main(clip: Path | None = None, rounds: int = 7) -> None:
    with TemporaryDirectory() as name:
        videos, out = Path(name, "videos"), Path(name, "out")
        footage.link(clip or footage.synthesised() / "medium-1.mp4", videos, NUM_CLIPS)
        actions = {
            PYTHON: partial(subprocess.run, [sys.executable, "-c", "pass"], check=True),
            HELP: partial(cavsync, "--help"),
            PREPARE: partial(_prepare, videos, out),
        }
        costs = timing.in_turns(actions, rounds)
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
    results.publish("start", "From the command to its end", rows)


def _prepare(videos: Path, out: Path) -> None:
    cavsync("prepare", "folder", videos, "--out", out)
    shutil.rmtree(out)


if __name__ == "__main__":
    typer.run(main)
