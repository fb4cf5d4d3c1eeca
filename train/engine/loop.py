"""The loop of every training; pretraining and fine-tuning are tasks that it carries out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cavsync.train.engine.callbacks import Monitor, TrainerCallback
from cavsync.train.engine.config import AVERAGED_PREFIX, as_dict
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import RunResult, StepMetrics, ValidationMetrics
from cavsync.train.engine.mirror.run_mirror import RunMirror
from cavsync.train.engine.optimizer import lr_ratio
from cavsync.train.engine.overlap.batches import on_device
from cavsync.train.engine.overlap.stopwatch import StopWatch
from cavsync.train.engine.run_folder import NOT_FINITE_NAME, RunError, RunFolder, explaining_failed_write
from cavsync.train.engine.saving.background import BackgroundWriter, snapshot
from cavsync.train.engine.signals import StopRequest
from cavsync.train.engine.step import keeping_clips_of_failed_step
from cavsync.train.engine.task import TrainingTask


class TrainingLoop:
    """A task and its run folder, after `steps_done` steps; every rank has one, the first one writes."""

    def __init__(
        self,
        task: TrainingTask,
        run_dir: Path,
        *,
        resume: bool,
        ranks: Ranks | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        mirror: RunMirror | None = None,
    ) -> None:
        """`mirror` copies the run folder to a URL."""
        self.mirror, self.url = mirror, None if mirror is None else str(mirror.url)
        self.task, self.ranks = task, ranks or Ranks()
        self.folder = self.ranks.on_all_ranks(partial(self._open_folder, run_dir, resume))
        self.steps_done = self._restore() if resume else 0
        self.changes = self.ranks.on_all_ranks(self._store_changes) if resume else ()
        self.callbacks = [*callbacks, Monitor(task.draw_curves)] if self.ranks.first else []
        self.stopwatch = StopWatch(task.config.batch_size, task.step.device)
        self.writer = BackgroundWriter()
        self.last: StepMetrics[Any] | None = None  # of the steps of this process
        self.logged_step = self.saved_step = self.steps_done
        self.stall_s = 0.0  # since the last logged step

    def run(self) -> RunResult:
        """Trains to the end, or until SIGTERM or Ctrl-C, which save first."""
        task, model = self.task, self.task.step.model
        if self.ranks.first:
            facts = task.facts(self.folder.path, self.steps_done)
            facts = replace(facts, changes=self.changes, url=self.url)
            for callback in self.callbacks:
                callback.on_train_begin(facts, task.config, model)
        with keeping_clips_of_failed_step(self.folder.path / NOT_FINITE_NAME):
            result = self._train()
        for callback in self.callbacks:
            callback.on_train_end(result, model)
        return result

    def _train(self) -> RunResult:
        task, num_steps = self.task, self.task.num_steps
        first_step = self.steps_done
        with StopRequest() as stop, closing(self.writer), closing(task.batches(self.steps_done)) as stream:
            batches = self.stopwatch.timed(on_device(stream, task.step.device))
            while self.steps_done < num_steps:
                # One communication between the ranks a step, while their devices still compute the step before.
                is_last = stop.requested and self.steps_done > first_step
                batch, stops = self.ranks.on_all_ranks_with(partial(_next_unless, is_last, batches), is_last)
                if stops:
                    break
                self._take_step(batch)
                # A signal to stop leaves little time: a run that it ends is saved before it is validated.
                validates = self.steps_done < num_steps and task.is_validated_after(self.steps_done)
                stops = validates and self.ranks.any(stop.requested)
                if stops or self.steps_done % task.config.log_every_steps == 0:
                    self._log_step()
                if stops or self.steps_done % task.config.checkpoint_every_steps == 0:
                    self._save_step(waits=stops)
                if validates:
                    self.ranks.on_all_ranks(self._validate)
                if stops:
                    break
            if self.steps_done > first_step:
                self._log_step()
                self._save_step(waits=True)
            if self.steps_done == num_steps:
                self.ranks.on_all_ranks(self._finish)
        return self._result()

    def _take_step(self, batch: Mapping[str, Any]) -> None:
        """Queues one step on the device, which may still compute the one before."""
        task, config = self.task, self.task.config
        lr = config.optimizer.lr * lr_ratio(
            config.schedule, self.steps_done, task.num_steps, task.steps_per_epoch
        )
        losses = task.step(batch, self.steps_done + 1, lr)
        self.steps_done += 1
        epoch, steps_of_next_epoch = divmod(self.steps_done, task.steps_per_epoch)
        if steps_of_next_epoch == 0:
            task.end_epoch(epoch)
        self.last = StepMetrics(
            pending=losses,
            step=self.steps_done,
            epoch=self.steps_done / task.steps_per_epoch,
            lr=lr,
            checkpoint_stall_s=self.stall_s,
            **vars(self.stopwatch.read()),
        )
        for callback in self.callbacks:
            callback.on_step_end(self.last, task.step.model, batch)

    def _log_step(self) -> None:
        """Waits for the device, so that the speed is that of its work; does nothing if the step is logged already."""
        if self.last is not None and self.last.step != self.logged_step:
            self.task.step.require_finite()
            self.last = replace(self.last, **vars(self.stopwatch.read()))
            self.ranks.on_all_ranks(partial(self._log, self.last))
            self.logged_step, self.stall_s = self.last.step, 0.0
            self.stopwatch.restart()

    def _save_step(self, waits: bool) -> None:
        """Copies the state, which is written while training goes on, unless it `waits`; not twice for a step."""
        if self.steps_done != self.saved_step:
            self.task.step.require_finite()
            self.ranks.on_all_ranks(self._save)
            self.saved_step = self.steps_done
        if waits:
            self.ranks.on_all_ranks(self.writer.wait)

    def _log(self, metrics: StepMetrics[Any]) -> None:
        self.writer.require_no_error()
        if self.ranks.first:
            self.folder.log(metrics.as_record())
        for callback in self.callbacks:
            callback.on_log(metrics)

    def _validate(self) -> None:
        metrics = self._validated() if self.ranks.first else None
        if metrics is not None:
            for callback in self.callbacks:
                callback.on_validation(metrics)

    def _validated(self) -> ValidationMetrics | None:
        """Of the weights, and beside them of their moving average: figures whose names begin with AVERAGED_PREFIX."""
        step, averaged = self.task.step, None
        if step.ema is not None:
            with step.ema.applied_to(step.model):
                averaged = self.task.validate(self.steps_done)
        metrics = self.task.validate(self.steps_done)
        if metrics is None or averaged is None:
            return metrics
        counts = {name for name in metrics.figures if name.startswith("num_")}
        beside = {
            f"{AVERAGED_PREFIX}{name}": value
            for name, value in averaged.figures.items()
            if name not in counts
        }
        return replace(metrics, figures={**metrics.figures, **beside})

    def _save(self) -> None:
        if self.ranks.first:
            began_s = time.perf_counter()
            self.writer.wait()
            state = {
                "config": as_dict(self.task.config),
                "num_ranks": self.ranks.count,
                "rng": torch.get_rng_state(),
                **self.task.state_dict(self.steps_done),
                **self.task.step.state_dict(),
            }
            save = partial(self.folder.checkpoints.save, self.steps_done, snapshot(state))
            self.stall_s += time.perf_counter() - began_s
            self.writer.start(save)

    def _finish(self) -> None:
        """Also when a complete run is resumed, since it may have been killed in here."""
        if self.ranks.first:
            with explaining_failed_write(self.folder.weights):
                self.task.save_weights(self.folder.weights)
        self._validate()

    def _result(self) -> RunResult:
        complete = self.steps_done == self.task.num_steps
        return RunResult(
            run_dir=self.folder.path,
            step=self.steps_done,
            num_steps=self.task.num_steps,
            checkpoint=self.folder.checkpoints.path(self.steps_done),
            weights=self.folder.weights if complete else None,
            last=self.last,
            url=self.url,
        )

    def _open_folder(self, path: Path, resume: bool) -> RunFolder:
        config = self.task.config
        if not self.ranks.first:
            return RunFolder(path, config, mirror=self.mirror)
        opened = RunFolder.reopen if resume else RunFolder.start
        return opened(path, config, self.mirror)

    def _restore(self) -> int:
        """Continue from the newest whole checkpoint; from the start where the run was killed before its first."""
        checkpoints, ranks, step = self.folder.checkpoints, self.ranks, 0
        newest = ranks.of_first(
            ranks.on_all_ranks(lambda: checkpoints.newest_whole() if ranks.first else None)
        )
        newest = (
            newest and checkpoints.folder / newest.name
        )  # each process of a run at a URL has a folder of its own
        if newest is not None:
            state = ranks.on_all_ranks(partial(self._load, newest))
            self.task.step.load_state_dict(state)
            torch.set_rng_state(state["rng"])
            step = int(state["step"])
        elif self.folder.weights.exists():
            raise RunError(
                f"{self.folder.path} is complete, and its checkpoints are gone, so it cannot go on. Start another run "
                f"from its weights, with initial_weights={self.folder.weights}."
            )
        if ranks.first:
            self.folder.drop_after(step)
        return step

    def _store_changes(self) -> tuple[str, ...]:
        """What is other than before the run was resumed: a sentence for each change."""
        return self.folder.store_changes(self.task.config, self.steps_done, self.task.steps_per_epoch)

    def _load(self, path: Path) -> dict[str, Any]:
        state = self.folder.checkpoints.load(path)
        self.task.load_state_dict(state, path)
        return state


def _next_unless(stops: bool, batches: Iterator[dict[str, Any]]) -> Any:
    """The next batch; None where this process was asked to stop, since a batch may take its time."""
    return None if stops else next(batches)
