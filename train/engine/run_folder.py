"""The folder of one run: its configuration, its metrics and its checkpoints; nothing in it is overwritten.

config.json        the resolved configuration
resumes.jsonl      one line per resumption that changed the configuration: the step, and each field's old and new value
metrics.jsonl      one line per logged step
validation.jsonl   one line per validation on held-out clips
checkpoints/       step-000500.pt ..., and last.pt which points to the newest
model.safetensors  the trained weights, once the run is complete; model-step-000500.safetensors those of a shorter run
                   that was lengthened
not-finite.json    the clips of a step with a NaN or infinite loss, which ended the run
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from safetensors import SafetensorError

from cavsync.errors import CavsyncError, OutputError, writing_output
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.storage.path import AnyPath
from cavsync.pipeline.storage.writable import require_writable_folder
from cavsync.train.engine.config import (
    ConfigError,
    RunConfig,
    as_dict,
    differing_fields,
    from_dict,
    is_free_on_resume,
)
from cavsync.train.engine.mirror.run_mirror import RunMirror
from cavsync.train.engine.optimizer import lengthened
from cavsync.train.engine.saving.checkpoints import Checkpoints

CONFIG_NAME = "config.json"
METRICS_NAME = "metrics.jsonl"
VALIDATION_NAME = "validation.jsonl"
WEIGHTS_NAME = "model.safetensors"
NOT_FINITE_NAME = "not-finite.json"
RESUMES_NAME = "resumes.jsonl"

C = TypeVar("C", bound=RunConfig)


class RunError(CavsyncError):
    """A run folder that cannot be started, resumed or written."""


class RunFolder:
    """A run on disk, from `RunFolder.start` or `RunFolder.reopen`."""

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        stored: RunConfig | None = None,
        mirror: RunMirror | None = None,
    ) -> None:
        """`stored` is the configuration that a resumed run had so far; `mirror` copies the folder to a URL."""
        self.path, self.stored, self.mirror = path, stored, mirror
        self.metrics = path / METRICS_NAME
        self.weights = path / WEIGHTS_NAME
        self.checkpoints = Checkpoints(path, config.keep_checkpoints, mirror)

    @classmethod
    def start(cls, path: Path, config: RunConfig, mirror: RunMirror | None = None) -> "RunFolder":
        """A new run; RunError where `path`, or the URL of `mirror`, already holds something."""
        is_taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
        if is_taken or (mirror is not None and mirror.holds_files()):
            raise RunError(
                f"{mirror.url if mirror else path} exists and is not overwritten: continue that run with --resume, "
                "or give another folder with --run."
            )
        require_writable_folder(path, "give another with --run")
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / CONFIG_NAME, json.dumps(as_dict(config), indent=1).encode())
        if mirror is not None:
            mirror.copy()
        return cls(path, config, mirror=mirror)

    @classmethod
    def reopen(cls, path: Path, config: RunConfig, mirror: RunMirror | None = None) -> "RunFolder":
        """The run in `path`; RunError where there is none or its configuration computes something else."""
        stored = read_config(path, type(config))
        require_resumable(path, stored, config)
        return cls(path, config, stored, mirror)

    def store_changes(self, config: RunConfig, steps_done: int, steps_per_epoch: int) -> tuple[str, ...]:
        """Stores what a resumed run changes, if anything; a sentence for each change.

        Raises RunError where the new length is shorter than what is done.
        """
        if self.stored is None or not (changed := differing_fields(as_dict(self.stored), as_dict(config))):
            return ()
        # The clips are those of before, which fill this many batches in an epoch.
        num_clips = steps_per_epoch * config.batch_size
        before, after = self.stored.total_steps(num_clips), config.total_steps(num_clips)
        if after < steps_done:
            raise RunError(
                f"{self.path} has done {steps_done} steps, more than the {after} of the new length: make it longer, or "
                "start another folder with --run."
            )
        with explaining_failed_write(self.path / CONFIG_NAME):
            if before == steps_done < after and self.weights.exists():
                self.weights.replace(self.path / f"model-step-{steps_done:06d}.safetensors")
            with (self.path / RESUMES_NAME).open("a") as file:
                file.write(json.dumps({"step": steps_done, "changed": changed}) + "\n")
            write_atomically(self.path / CONFIG_NAME, json.dumps(as_dict(config), indent=1).encode())
        lines = [f"{name} was {old!r}, now {new!r}" for name, (old, new) in changed.items()]
        if before != after:
            lines.append(lengthened(config, steps_done, before, after, steps_per_epoch))
        return tuple(lines)

    def log(self, record: dict[str, Any]) -> None:
        with explaining_failed_write(self.metrics), self.metrics.open("a") as file:
            file.write(json.dumps(with_nulls(record)) + "\n")
        if self.mirror is not None:
            self.mirror.copy_now_and_then()

    def drop_after(self, step: int) -> None:
        """Drop what a killed run left behind its newest checkpoint: metrics of lost steps, half-written files."""
        drop_lines_after(self.metrics, step)
        self.checkpoints.drop_leftovers()


def stored_fields(path: AnyPath) -> dict[str, Any]:
    """The configuration of the run in the folder `path`, as JSON; RunError where there is none."""
    file = path / CONFIG_NAME
    if not file.is_file():
        raise RunError(f"{path} holds no run to resume: {file.name} is not there. Start it without --resume.")
    try:
        fields: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error}), so the run cannot be resumed.") from error
    return fields


def read_config(path: AnyPath, kind: type[C]) -> C:
    """The configuration of the run in the folder `path`; RunError where there is none of this kind."""
    try:
        return from_dict(kind, stored_fields(path))
    except ConfigError as error:
        raise RunError(f"{path / CONFIG_NAME} is not of a run that this command resumes: {error}") from error


def require_resumable(path: AnyPath, stored: RunConfig, config: RunConfig) -> None:
    """RunError where `config` computes something else than the configuration that the run in `path` has."""
    changed = differing_fields(as_dict(stored), as_dict(config))
    fixed = {name: values for name, values in changed.items() if not is_free_on_resume(name)}
    if fixed:
        listed = "; ".join(f"{name} was {before!r}, now {now!r}" for name, (before, now) in fixed.items())
        raise RunError(
            f"{path} was started with another configuration: {listed}. "
            "Resume it without that, since a run keeps its configuration, or start another folder with --run."
        )


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
        with writing_output(path, SafetensorError):
            yield
    except OutputError as error:
        raise RunError(f"{error} The run goes on with --resume.") from error
