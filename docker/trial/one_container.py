"""Runs the image's commands one after the other in containers of their own, on the small world."""

import hashlib
import json
import os
import time
from pathlib import Path

from engine import TrialError, output, run

IMAGE = "cavsync:cpu"
USER = 10001
WORLD = "demo --only-world /data --train-clips {clips} --test-clips 64"
PREPARE = "prepare vggsound --frame-size 128 --shard-size 8 --out /data/data/{name} "
TRAIN = "train pretrain --preset tiny --data /data/data/ray --run /data/runs/trial --steps {steps} --num-workers 2"
EVAL = "eval retrieval --data /data/data/ray --checkpoint /data/runs/trial --out /data/runs/trial/retrieval"


def run_commands(data: Path, clips: int, steps: int) -> None:
    """World, preparation with and without Ray, training, evaluation; prints what each took."""
    make_world(data, clips)
    require_absent(data / "data/ray")
    taken_s = {
        "doctor": in_container(data, "doctor"),
        "prepare, 2 workers of Ray": in_container(data, PREPARE.format(name="ray") + "--workers 2"),
        "prepare, one process": prepare_alone(data),
        "train pretrain": in_container(data, TRAIN.format(steps=steps)),
        "eval retrieval": in_container(data, EVAL),
    }
    num_files = require_equal(data / "data/alone", data / "data/ray")
    print(f"{num_files} files of shards and index are equal, made by Ray and by one process")
    print_sizes()
    for name, seconds in taken_s.items():
        print(f"{seconds:7.1f} s  {name}")


def make_world(data: Path, clips: int) -> None:
    """Write the small world into `data`, as the image's user; one that is there is reused."""
    data.mkdir(parents=True, exist_ok=True)
    os.chown(data, USER, USER)
    in_container(data, WORLD.format(clips=clips))


def prepare_alone(data: Path) -> float:
    """Prepare in one process what other ways of preparing are compared with; returns seconds."""
    return in_container(data, PREPARE.format(name="alone") + "--workers 1")


def in_container(data: Path, command: str) -> float:
    """Run `cavsync COMMAND` in a container of its own without a network; returns seconds."""
    start_s = time.monotonic()
    options = ["--rm", "--network=none", "--shm-size=3gb", f"--volume={data}:/data"]
    run(["podman", "run", *options, IMAGE, *command.split()])
    return time.monotonic() - start_s


def require_absent(dataset: Path) -> None:
    if dataset.exists():
        raise TrialError(f"{dataset} is there already: delete it, or name another --data")


def require_equal(expected: Path, made: Path) -> int:
    """The number of files of shards and index, all with equal bytes in both datasets."""
    wanted, got = _digests(expected), _digests(made)
    differing = sorted(name for name in wanted | got if wanted.get(name) != got.get(name))
    if differing or not wanted:
        raise TrialError(f"{made} differs from {expected} in {len(differing)} files, first {differing[:1]}")
    return len(wanted)


def _digests(dataset: Path) -> dict[str, str]:
    files = [*dataset.glob("shards/*"), *dataset.glob("index/*")]
    return {str(file.relative_to(dataset)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def print_sizes() -> None:
    (image,) = json.loads(output(["podman", "image", "inspect", IMAGE]))
    print(f"{image['Size'] / 1e9:7.2f} GB {IMAGE}, unpacked")
