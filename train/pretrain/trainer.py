"""Pretraining: one loop, with the step in its middle."""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.train.data.loader import ClipSource, IndexedSource
from cavsync.train.data.pairs import Batch
from cavsync.train.data.sampler import Epochs
from cavsync.train.engine.config import DeviceChoice, as_dict
from cavsync.train.engine.device import DEVICE_CHOICES, DeviceError, choose_device
from cavsync.train.engine.distributed import Ranks, joined
from cavsync.train.engine.optimizer import keeping_clips_of_failed_step, lr_ratio
from cavsync.train.engine.run_folder import NOT_FINITE_NAME, RunError, RunFolder, explaining_failed_write
from cavsync.train.engine.signals import StopRequest
from cavsync.train.engine.throughput import StopWatch
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.initial import initial_model
from cavsync.train.pretrain.metrics import PretrainResult, RunFacts, StepMetrics, TrainerCallback
from cavsync.train.pretrain.step import TrainStep

# What others know a run by.
__all__ = [
    "DEVICE_CHOICES",
    "DeviceChoice",
    "DeviceError",
    "PretrainResult",
    "Pretraining",
    "RunFacts",
    "StepMetrics",
    "choose_device",
    "open_source",
    "pretrain",
]


def pretrain(
    config: PretrainConfig,
    run_dir: Path,
    *,
    resume: bool = False,
    device: DeviceChoice = "auto",
    on_start: Callable[[RunFacts], None] = lambda facts: None,
    on_step: Callable[[StepMetrics], None] = lambda metrics: None,
    observers: Sequence[TrainerCallback] = (),
) -> PretrainResult:
    """Train `config` in `run_dir` to its end, or until SIGTERM or Ctrl-C, which save first.

    With `resume` it continues where the newest whole checkpoint stands; on the CPU the result is bit-equal to that
    of a run that was never stopped. Under torchrun every process calls this with the same arguments: together they
    train one model, and the first of them writes the folder and calls `on_start`, `on_step` and the observers.
    Raises CavsyncError on what a user can mend: a folder that is taken, a dataset too small or changed, another
    configuration on resume, a loss that is not finite.
    """
    place = choose_device(device)
    with joined(place) as ranks:
        run = Pretraining(config, run_dir, place, ranks, resume=resume)
        told = observers if ranks.first else ()
        if ranks.first:
            on_start(run.facts())
        for observer in told:
            observer.started(run.facts(), run.config, run.trainer.model)
        with keeping_clips_of_failed_step(run.folder.path / NOT_FINITE_NAME):
            result = run.train(on_step if ranks.first else lambda metrics: None, told)
        for observer in told:
            observer.ended(result, run.trainer.model)
    return result


class Pretraining:
    """A run in memory: model, optimizer, data and folder, at step `steps_done`."""

    def __init__(
        self, config: PretrainConfig, run_dir: Path, device: torch.device, ranks: Ranks, *, resume: bool
    ) -> None:
        self.ranks, self.device = ranks, device
        # Whatever may be refused comes before the folder is made.
        ranks.on_all_ranks(partial(config.batch_of_a_rank, ranks.count))
        self.source = ranks.on_all_ranks(partial(open_source, config))
        self.config = config = dataclasses.replace(config, data=self.source.config)
        self.epochs = Epochs(len(self.source), config.batch_size, config.seed)
        self.num_steps = config.total_steps(len(self.source))
        model, self.start = ranks.on_all_ranks(partial(initial_model, config))
        self.folder = ranks.on_all_ranks(partial(self._open_folder, run_dir, resume))
        self.trainer = TrainStep(config, model, device, ranks)
        self.steps_done = self._restore() if resume else 0

    def train(
        self, on_step: Callable[[StepMetrics], None], observers: Sequence[TrainerCallback]
    ) -> PretrainResult:
        """The loop. A checkpoint follows the last step, every so many, and a request to stop."""
        config, ranks, watch, metrics = self.config, self.ranks, StopWatch(self.config.batch_size), None
        with StopRequest() as stop, closing(self._batches()) as stream:
            batches = watch.timed(stream)
            ends = self.steps_done == self.num_steps
            while not ends:
                ratio = lr_ratio(config.schedule, self.steps_done, self.num_steps, self.epochs.num_batches)
                lr = config.optimizer.lr * ratio
                batch = ranks.on_all_ranks(partial(next, batches))

                losses = self.trainer(batch, self.steps_done + 1, lr)
                self.steps_done += 1

                metrics = StepMetrics(
                    **dataclasses.asdict(losses),
                    step=self.steps_done,
                    epoch=self.steps_done / self.epochs.num_batches,
                    lr=lr,
                    **watch.read(),
                )
                on_step(metrics)
                for observer in observers:
                    observer.stepped(metrics, self.trainer.model, batch)
                ends = ranks.any(stop.requested) or self.steps_done == self.num_steps
                if ends or self.steps_done % config.log_every_steps == 0:
                    ranks.on_all_ranks(partial(self._log, metrics))
                    watch.restart()
                if ends or self.steps_done % config.checkpoint_every_steps == 0:
                    ranks.on_all_ranks(self._save)
            return ranks.on_all_ranks(partial(self._result, metrics))

    def facts(self) -> RunFacts:
        trained = (p.numel() for p in self.trainer.model.parameters() if p.requires_grad)
        return RunFacts(
            run_dir=self.folder.path,
            preset=self.config.preset,
            dataset=self.config.data.path,
            num_clips=len(self.source),
            num_parameters=sum(trained),
            num_steps=self.num_steps,
            steps_done=self.steps_done,
            start=self.start,
            batch_size=self.config.batch_size,
            num_ranks=self.ranks.count,
            device=str(self.device),
            precision=self.config.precision,
            stored_frame=self.source.stored_frame(),
            image_size=self.config.model.image_size,
        )

    def _batches(self) -> Generator[Batch, None, None]:
        return self.source.batches(self.epochs.position_after(self.steps_done), self.ranks, self.device)

    def _open_folder(self, path: Path, resume: bool) -> RunFolder:
        if not self.ranks.first:
            return RunFolder(path, self.config)
        return RunFolder.reopen(path, self.config) if resume else RunFolder.start(path, self.config)

    def _log(self, metrics: StepMetrics) -> None:
        if self.ranks.first:
            self.folder.log(dataclasses.asdict(metrics))

    def _save(self) -> None:
        if self.ranks.first:
            self.folder.checkpoints.save(self.steps_done, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "config": as_dict(self.config),
            "model_config": as_dict(self.config.model),
            "clips": self.source.identity(),
            "num_ranks": self.ranks.count,
            "position": dataclasses.asdict(self.epochs.position_after(self.steps_done)),
            "rng": torch.get_rng_state(),
            **self.trainer.state_dict(),
        }

    def _restore(self) -> int:
        """Continue from the newest whole checkpoint; from the start where the run was killed before its first."""
        checkpoints, first = self.folder.checkpoints, self.ranks.first
        newest = self.ranks.of_first(
            self.ranks.on_all_ranks(lambda: checkpoints.newest_whole() if first else None)
        )
        step = 0
        if newest is not None:
            state = self.ranks.on_all_ranks(partial(self._load, newest))
            self.trainer.load_state_dict(state)
            torch.set_rng_state(state["rng"])
            step = int(state["step"])
        if first:
            self.folder.forget_after(step)
        return step

    def _load(self, path: Path) -> dict[str, Any]:
        state = self.folder.checkpoints.load(path)
        if state["clips"] != self.source.identity():
            raise RunError(
                f"{self.config.data.path} has {len(self.source)} clips, and they are not those that {path} was "
                "trained on: the order of the data would differ. Give the same dataset with --data."
            )
        if self.config.negatives == "local" and state["num_ranks"] != self.ranks.count:
            raise RunError(
                f"{path} was trained by {state['num_ranks']} processes, these are {self.ranks.count}: with "
                "negatives=local each clip would be told apart from others. Start as many, or another run."
            )
        return state

    def _result(self, last: StepMetrics | None) -> PretrainResult:
        complete = self.steps_done == self.num_steps
        if complete and self.ranks.first:
            with explaining_failed_write(self.folder.weights):
                training = {"step": self.steps_done, "config": as_dict(self.config)}
                save_model(self.trainer.model, self.folder.weights, training)
        checkpoint = self.folder.checkpoints.path(self.steps_done)
        return PretrainResult(
            run_dir=self.folder.path,
            step=self.steps_done,
            num_steps=self.num_steps,
            checkpoint=checkpoint,
            weights=self.folder.weights if complete else None,
            last=last,
        )


def open_source(config: PretrainConfig) -> ClipSource:
    """The clips that `config` trains on; DatasetError where they are not there."""
    given = config.data, config.model, config.batch_size, config.seed
    if config.data.source == "index":
        return IndexedSource(*given)
    from cavsync.train.data.streaming import StreamedSource

    return StreamedSource(*given)
