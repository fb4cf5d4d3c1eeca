"""The folder of one run: its configuration, its metrics and its checkpoints; nothing in it is overwritten.

config.json        the resolved configuration
metrics.jsonl      one line per logged step
validation.jsonl   one line per validation on held-out clips
checkpoints/       step-000500.pt ..., and last.pt which points to the newest
model.safetensors  the trained weights, once the run is complete
not-finite.json    the clips of a step with a NaN or infinite loss, which ended the run
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.checkpoint import Checkpoints
from cavsync.train.engine.config import RunConfig, as_dict, differing_fields, is_free_on_resume

CONFIG_NAME = "config.json"
METRICS_NAME = "metrics.jsonl"
VALIDATION_NAME = "validation.jsonl"
WEIGHTS_NAME = "model.safetensors"
NOT_FINITE_NAME = "not-finite.json"


class RunError(CavsyncError):
    """A run folder that cannot be started, resumed or written."""


class RunFolder:
    """A run on disk, from `RunFolder.start` or `RunFolder.reopen`."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.metrics = path / METRICS_NAME
        self.weights = path / WEIGHTS_NAME
        self.checkpoints = Checkpoints(path, config.keep_checkpoints)

    @classmethod
    def start(cls, path: Path, config: RunConfig) -> "RunFolder":
        """A new run; RunError where `path` already holds something."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(
                f"{path} exists and is not overwritten: continue that run with --resume, "
                "or give another folder with --run."
            )
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / CONFIG_NAME, json.dumps(as_dict(config), indent=1).encode())
        return cls(path, config)

    @classmethod
    def reopen(cls, path: Path, config: RunConfig) -> "RunFolder":
        """The run in `path`; RunError where there is none or its configuration computes something else."""
        stored = path / CONFIG_NAME
        if not stored.is_file():
            raise RunError(
                f"{path} holds no run to resume: {stored.name} is not there. Start it without --resume."
            )
        changed = differing_fields(json.loads(stored.read_text()), as_dict(config))
        fixed = {name: values for name, values in changed.items() if not is_free_on_resume(name)}
        if fixed:
            listed = "; ".join(f"{name} was {before!r}, now {now!r}" for name, (before, now) in fixed.items())
            raise RunError(
                f"{path} was started with another configuration: {listed}. "
                "Resume it with the same one, or start another folder with --run."
            )
        return cls(path, config)

    def log(self, record: dict[str, Any]) -> None:
        with explaining_failed_write(self.metrics), self.metrics.open("a") as file:
            file.write(json.dumps(with_nulls(record)) + "\n")

    def drop_after(self, step: int) -> None:
        """Drop what a killed run left behind its newest checkpoint: metrics of lost steps, half-written files."""
        drop_lines_after(self.metrics, step)
        self.checkpoints.drop_leftovers()


def drop_lines_after(path: Path, step: int) -> None:
    """Drop the lines of steps that a killed run did after its newest checkpoint, and one cut short by the kill."""
    if path.exists():
        whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())


def read_lines(path: Path) -> pd.DataFrame:
    """The lines of a .jsonl file of a run, one row each; none where it does not exist."""
    return pd.read_json(path, lines=True) if path.is_file() else pd.DataFrame()


def with_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with null for infinity and NaN, which JSON has not."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }


@contextmanager
def explaining_failed_write(path: Path) -> Iterator[None]:
    """RunError, with what to do, where `path` cannot be written, as on a full disk."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path} cannot be written: {error}. Make room, then continue with --resume."
        ) from error
