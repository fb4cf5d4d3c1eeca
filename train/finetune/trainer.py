"""Learning the classes of a dataset: fine-tuning a whole model, or training a probe on a frozen one."""

import dataclasses
import json
import os
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.data.labelled import LabelledClips, collate
from cavsync.train.data.labels import require_single, task_of
from cavsync.train.data.loader import fingerprint, load_batches
from cavsync.train.data.sampler import EpochBatchSampler, Epochs, class_weights
from cavsync.train.engine.averaging import WeightAverage
from cavsync.train.engine.config import DeviceChoice, as_dict
from cavsync.train.engine.device import choose_device
from cavsync.train.engine.optimizer import keeping_clips_of_failed_step, lr_ratio
from cavsync.train.engine.run_folder import NOT_FINITE_NAME, RunError, RunFolder, explaining_failed_write
from cavsync.train.engine.signals import StopRequest
from cavsync.train.engine.tensorboard import EventLog
from cavsync.train.engine.throughput import StopWatch
from cavsync.train.evaluation.classification.metrics import Classification
from cavsync.train.finetune.cached_features import EncodedClips
from cavsync.train.finetune.config import FinetuneConfig
from cavsync.train.finetune.initial import Start
from cavsync.train.finetune.items import TrainingClips
from cavsync.train.finetune.metrics import (
    UNHEARD,
    FinetuneFacts,
    FinetuneMetrics,
    FinetuneResult,
    Listeners,
    as_record,
    headline,
)
from cavsync.train.finetune.plots import class_curves
from cavsync.train.finetune.step import FinetuneStep
from cavsync.train.finetune.validation import Validation

SCORES_NAME, CURVES_NAME = "scores.json", "curves.png"


def finetune(
    config: FinetuneConfig,
    run_dir: Path,
    *,
    resume: bool = False,
    device: DeviceChoice = "auto",
    listeners: Listeners = UNHEARD,
) -> FinetuneResult:
    """Train `config` in `run_dir` to its end, or until SIGTERM or Ctrl-C, which save first.

    The promises are those of `pretrain`: on the CPU a resumed run is bit-equal to one that was never stopped.
    Raises CavsyncError or CheckpointError on what a user can mend.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("Classes are learned in one process, on one GPU: start this command without torchrun.")
    run = FineTuning(config, run_dir, choose_device(device), listeners, resume=resume)
    listeners.started(run.facts(), run.config)
    with keeping_clips_of_failed_step(run.folder.path / NOT_FINITE_NAME):
        return run.train()


class FineTuning:
    """A run in memory: classifier, optimizer, data and folder, at step `steps_done`."""

    def __init__(
        self,
        config: FinetuneConfig,
        run_dir: Path,
        device: torch.device,
        listeners: Listeners,
        *,
        resume: bool,
    ) -> None:
        # Whatever may be refused comes before the folder is made.
        self.device, self.listeners, self.start = device, listeners, Start.of(config)
        clips = LabelledClips(self.start.inputs(config.data), self.start.model.config, config.head.modality)
        task = config.task or task_of(clips.targets)
        if task == "single-label":
            require_single(clips.targets, clips.where)
        self.clips, self.task = clips, task
        self.config = config = dataclasses.replace(config, data=clips.config, task=task)
        self.epochs = Epochs(len(clips), config.batch_size, config.seed)
        self.num_steps = config.num_epochs * self.epochs.num_batches
        model = self.start.classifier(config, len(clips.labels))
        self.trainer = FinetuneStep(config, task, model, device)
        self.average = WeightAverage(config.average_epochs)
        self.validation = self._validation()
        self.folder = (RunFolder.reopen if resume else RunFolder.start)(run_dir, config)
        self.steps_done = self._restore() if resume else 0
        self.events = EventLog(run_dir, self.steps_done) if config.monitor.tensorboard else None

    def train(self) -> FinetuneResult:
        """The loop. A checkpoint follows the last step, every so many, and a request to stop."""
        config, per_epoch = self.config, self.epochs.num_batches
        watch = StopWatch(config.batch_size)
        with StopRequest() as stop, closing(self._stream()) as stream:
            batches = watch.timed(stream)
            ends = self.steps_done == self.num_steps
            while not ends:
                lr = config.optimizer.lr * lr_ratio(
                    config.schedule, self.steps_done, self.num_steps, per_epoch
                )
                batch = next(batches)

                losses = self.trainer(batch, self.steps_done + 1, lr)
                self.steps_done += 1

                epoch, within = divmod(self.steps_done, per_epoch)
                metrics = FinetuneMetrics(
                    **dataclasses.asdict(losses),
                    step=self.steps_done,
                    epoch=self.steps_done / per_epoch,
                    lr=lr,
                    **watch.read(),
                )
                self.listeners.stepped(metrics)
                ends = self.steps_done == self.num_steps or stop.requested
                scores = self._end_epoch(epoch) if within == 0 else {}
                if ends or scores or self.steps_done % config.log_every_steps == 0:
                    self._log(dataclasses.asdict(metrics) | scores)
                    watch.restart()
                if ends or self.steps_done % config.checkpoint_every_steps == 0:
                    self._save()
        return self._result()

    def facts(self) -> FinetuneFacts:
        model, config = self.trainer.model, self.config
        num_trained = sum(parameter.numel() for parameter in self.trainer.trained)
        without = (self.clips.targets.sum(dim=0) == 0).nonzero().flatten().tolist()
        return FinetuneFacts(
            run_dir=self.folder.path,
            preset=config.preset,
            initial_weights=self.start.weights,
            dataset=self.clips.where,
            num_clips=len(self.clips),
            num_classes=len(self.clips.labels),
            classes_without_clips=[self.clips.labels.names[number] for number in without],
            task=self.task,
            head=config.head.kind,
            modality=config.head.modality,
            num_parameters=num_trained,
            num_frozen=sum(parameter.numel() for parameter in model.parameters()) - num_trained,
            num_steps=self.num_steps,
            steps_done=self.steps_done,
            batch_size=config.batch_size,
            device=str(self.device),
            precision=config.precision,
        )

    def _validation(self) -> Validation | None:
        config = self.config
        if config.validation_split is None:
            return None
        data = dataclasses.replace(config.data, split=config.validation_split)
        clips = LabelledClips(data, self.start.model.config, config.head.modality)
        return Validation(clips, self.task, self.device, config.precision, keep=config.frozen)

    def _items(self) -> TrainingClips | EncodedClips:
        if self.config.cache_features:
            return EncodedClips.encode(
                self.trainer.model, self.clips, self.config, self.device, self.listeners.encoded
            )
        return TrainingClips(self.clips, self.config)

    def _stream(self) -> Generator[dict[str, Any], None, None]:
        """Batches from the step that comes next, without end."""
        # What is in memory already is not worth a process.
        num_workers = 0 if self.config.cache_features else self.config.data.num_workers
        weights = class_weights(self.clips.targets) if self.config.balanced else None
        samples = EpochBatchSampler(self.epochs, weights, self.steps_done)
        yield from load_batches(partial(collate, self._items()), samples, num_workers, self.device)

    def _end_epoch(self, epoch: int) -> dict[str, float]:
        """Takes the weights into the average; the scores of this epoch where they are due."""
        self.average.after_epoch(epoch, self.trainer.model)
        due = epoch % self.config.validate_every_epochs == 0 and epoch < self.config.num_epochs
        return self._score(epoch) if due else {}

    def _score(self, epoch: int) -> dict[str, float]:
        if self.validation is None:
            return {}
        scores = self.validation.score(self.trainer.model)
        self.listeners.scored(epoch, scores)
        return headline(scores)

    def _log(self, record: dict[str, Any]) -> None:
        self.folder.log(record)
        if self.events:
            self.events.numbers("train", record, record["step"])

    def _save(self) -> None:
        model = self.trainer.model
        state = {
            "config": as_dict(self.config),
            "model_config": as_dict(model.config),
            "classifier_config": as_dict(model.classifier),
            "clips": fingerprint(self._identity()),
            "average": self.average.state_dict(),
            **self._answers(),
            **self.trainer.state_dict(),
        }
        self.folder.checkpoints.save(self.steps_done, state)

    def _restore(self) -> int:
        """Continue from the newest whole checkpoint; from the start where the run was killed before its first."""
        newest = self.folder.checkpoints.newest_whole()
        if newest is None:
            self.folder.forget_after(0)
            return 0
        state = self.folder.checkpoints.load(newest)
        if state["clips"] != fingerprint(self._identity()):
            raise RunError(
                f"{self.clips.where} has {len(self.clips)} clips of {len(self.clips.labels)} classes, and they are "
                f"not those that {newest} was trained on. Give the same dataset with --data."
            )
        self.trainer.load_state_dict(state)
        self.average.load_state_dict(state["average"], self.device)
        self.folder.forget_after(state["step"])
        return int(state["step"])

    def _identity(self) -> list[str]:
        """Clips and classes, in order: what the numbers in a checkpoint refer to."""
        return [*self.clips.store.keys, "classes", *self.clips.labels.ids]

    def _answers(self) -> dict[str, Any]:
        """What the outputs stand for, in words that files keep."""
        labels = self.clips.labels
        return {"labels": list(labels.ids), "label_names": list(labels.names), "task": self.task}

    def _result(self) -> FinetuneResult:
        complete = self.steps_done == self.num_steps
        scores = self._finish() if complete else None
        if self.events:
            self.events.close()
        result = {} if scores is None else headline(scores)
        curves = class_curves(pd.read_json(self.folder.metrics, lines=True), result)
        self._write(CURVES_NAME, curves)
        checkpoint = self.folder.checkpoints.newest()
        assert checkpoint is not None  # the last step saved one
        return FinetuneResult(
            run_dir=self.folder.path,
            step=self.steps_done,
            num_steps=self.num_steps,
            checkpoint=checkpoint,
            weights=self.folder.weights if complete else None,
            scores=scores,
        )

    def _finish(self) -> Classification | None:
        """Writes the resulting weights, averaged where the run says so, and what they score."""
        model = self.trainer.model
        if self.average.count:
            model.load_state_dict(self.average.weights)
        training = self._answers() | {"config": as_dict(self.config)}
        with explaining_failed_write(self.folder.weights):
            save_model(model, self.folder.weights, training)
        if self.validation is None:
            return None
        scores = self.validation.score(model)
        self.listeners.scored(self.config.num_epochs, scores)
        self._write(SCORES_NAME, json.dumps(as_record(scores), indent=1).encode())
        return scores

    def _write(self, name: str, content: bytes) -> None:
        with explaining_failed_write(self.folder.path / name):
            write_atomically(self.folder.path / name, content)
