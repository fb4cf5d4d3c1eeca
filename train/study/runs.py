"""Carries out the runs of a study, one after the other in this process or as Ray tasks."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from cavsync.pipeline.jobs.work import Workers
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.storage.lock import LockError
from cavsync.train.choices import DeviceChoice
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.run_folder import CONFIG_NAME
from cavsync.train.engine.step import NonFiniteError
from cavsync.train.pretrain.trainer import pretrain
from cavsync.train.study.folder import RESULT_NAME, StudyFolder
from cavsync.train.study.plan import PlannedRun
from cavsync.train.study.scoring import ScoringCallback

# complete and failed have a result.json; a stopped run continues, one elsewhere is another process's.
Outcome = Literal["complete", "failed", "stopped", "elsewhere", "lost"]
# Memory that Ray keeps free for a run.
WORKER_BYTES = 2 * 2**30


@dataclass(frozen=True)
class CarryOut:
    """Trains and scores a run of the study in `root`; a run that was interrupted goes on from its last checkpoint."""

    root: Path
    device: DeviceChoice

    def __call__(self, run: PlannedRun, callbacks: Sequence[TrainerCallback] = ()) -> Outcome:
        folder = StudyFolder.open(self.root)
        try:
            with folder.claimed(run):
                # Another process may have ended it since the runs were listed.
                return outcome_of(folder, run) or self._train(folder, run, callbacks)
        except LockError:
            return "elsewhere"

    def _train(self, folder: StudyFolder, run: PlannedRun, callbacks: Sequence[TrainerCallback]) -> Outcome:
        path = folder.path(run)
        resume = (path / CONFIG_NAME).is_file()
        try:
            result = pretrain(
                folder.config(run),
                path,
                resume=resume,
                device=self.device,
                callbacks=[ScoringCallback(folder.study), *callbacks],
            )
        except NonFiniteError as error:
            write_result(path, {"outcome": "failed", "reason": str(error)})
            return "failed"
        if not result.complete:
            return "stopped"
        write_result(path, {"outcome": "complete"})
        # The weights stay; what only a continuation needs is several times as large.
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
        return "complete"


def outcome_of(folder: StudyFolder, run: PlannedRun) -> Outcome | None:
    """How a run ended; None where it did not yet."""
    result = folder.result(run)
    return None if result is None else result["outcome"]


def carry_out(
    folder: StudyFolder,
    runs: Sequence[PlannedRun],
    device: DeviceChoice,
    workers: Workers,
    log: Callable[[str], None],
    callbacks: Callable[[PlannedRun], Sequence[TrainerCallback]] = lambda run: (),
) -> Iterator[tuple[PlannedRun, Outcome]]:
    """Each run as it ends; those that ended before are left out.

    `callbacks` are given to a run in this process. Ray runs `workers.number` at a time, each with a GPU of its own where the
    device is not "cpu" and there is one.
    """
    waiting = [run for run in runs if outcome_of(folder, run) is None]
    make = CarryOut(folder.root, device)
    if workers.number == 1 and workers.ray_address is None:
        for run in waiting:
            yield run, make(run, callbacks(run))
        return
    from cavsync.pipeline.jobs.ray_runner import map_on_ray  # Ray takes half a second to import

    num_gpus = 1.0 if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else 0.0
    for run, outcome in map_on_ray(make, waiting, workers, WORKER_BYTES, log, num_gpus):
        yield run, outcome or "lost"


def write_result(path: Path, content: dict[str, str]) -> None:
    write_atomically(path / RESULT_NAME, json.dumps(content, indent=1).encode())
