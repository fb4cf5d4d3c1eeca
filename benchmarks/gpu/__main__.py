"""Tests, speed, a run from shards, inference and a trace on a GPU, within a given time and without attention.

    python -m benchmarks.gpu --out DIR [--device cuda] [--size full] [--minutes 9] [--sections tests,throughput]

Needs no decoder of videos. Where cavsync is not installed: `make typing`, then with PYTHONSAFEPATH=1 and
PYTHONPATH="$PWD/build/typing:$PWD". Each section is a
process with a time of its own; what one leaves over the next ones get. OUT holds a JSON file for each section, written
as it goes on, and table.txt, which is also printed at the end and when SIGTERM comes.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from benchmarks.gpu import record, table
from benchmarks.support.neighbours import Neighbours

# Seconds of each nine minutes, the most valuable section first.
SHARES = {"tests": 150, "throughput": 180, "run": 100, "inference": 70, "trace": 40}
GRACE_S = 5

Device = Literal["cuda", "cpu"]
Size = Literal["toy", "full"]


def main(
    out: Annotated[Path, typer.Option(help="Folder for what is found.")],
    device: Device = "cuda",
    size: Size = "full",
    minutes: float = 9,
    sections: str = ",".join(SHARES),
) -> None:
    names = sections.split(",")
    if unknown := [name for name in names if name not in SHARES]:
        raise typer.BadParameter(f"no section {', '.join(unknown)}; there are: {', '.join(SHARES)}")
    gpu = _gpu() if device == "cuda" else "none"
    if gpu is None:
        raise typer.BadParameter("torch sees no GPU here; --device cpu --size toy tries the script out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "machine.json").write_text(json.dumps(_machine(gpu), indent=1))
    stop_s, neighbours = time.monotonic() + 60 * minutes, Neighbours()

    def end(number: int, frame: FrameType | None) -> None:
        table.publish(out, list(SHARES), "stopped by a signal")
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    for number, name in enumerate(names):
        left_s = stop_s - time.monotonic()
        seconds = left_s * SHARES[name] / sum(SHARES[other] for other in names[number:])
        print(f"section {name}: {seconds:.0f} s at most", flush=True)
        _run_section(name, out, device, size, seconds)
    table.publish(out, names, neighbours.note())


def _run_section(name: str, out: Path, device: Device, size: Size, seconds: float) -> None:
    """A process of its own: what it takes down is itself only. It and all that it started end with its time."""
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}", str(out), device, size, f"{seconds:.0f}"]
    began_s = time.monotonic()
    with (out / "log.txt").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=_environment()
        )
        ended = ""
        try:
            if process.wait(timeout=seconds):
                ended = f"ended with code {process.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
        finally:
            _end_group(process)
    status = {"seconds": round(time.monotonic() - began_s, 1), "ended": ended}
    if ended and not record.read(out / f"{name}.json"):
        status["ended"] += ": " + " | ".join((out / "log.txt").read_text().strip().splitlines()[-3:])
    (out / "sections.jsonl").open("a").write(json.dumps({"section": name, **status}) + "\n")


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def _environment() -> dict[str, str]:
    # Compiled kernels are shared by the sections: what one has compiled the next one loads.
    return {**os.environ, "PYTHONUNBUFFERED": "1", "TORCHINDUCTOR_FX_GRAPH_CACHE": "1"}


def _gpu() -> str | None:
    """The name of the GPU, asked of torch, which takes seconds to import."""
    import torch

    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else None


def _machine(gpu: str) -> dict[str, object]:
    return {
        "gpu": gpu,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": version("torch"),
        "processor": platform.machine(),
        "system": platform.platform(),
    }


if __name__ == "__main__":
    typer.run(main)
