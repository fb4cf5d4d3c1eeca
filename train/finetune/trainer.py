"""Training a classifier as a task of the training loop: all weights of a model, or a probe on a frozen one."""

import dataclasses
import json
import os
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.storage.path import AnyPath
from cavsync.train.choices import DeviceChoice
from cavsync.train.data.labelled.clips import LabelledClips, collate
from cavsync.train.data.labelled.labels import require_single, task_of
from cavsync.train.data.loader import dataset_shares, fingerprint, load_batches, same_data
from cavsync.train.data.pair_rule import Batch
from cavsync.train.data.sampler import EpochBatchSampler, Epochs, class_weights
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.config import as_dict
from cavsync.train.engine.device import choose_device, resolved_compile, warn_of_slow_precision
from cavsync.train.engine.loop import TrainingLoop
from cavsync.train.engine.metrics import ValidationMetrics
from cavsync.train.engine.mirror.run_mirror import run_at
from cavsync.train.engine.optimizer import WeightAverage, epochs_in
from cavsync.train.engine.overlap.loader_processes import dead_workers_explained
from cavsync.train.engine.run_folder import RunError, explaining_failed_write
from cavsync.train.engine.tracking.trackers import require_installed
from cavsync.train.evaluation.classification.metrics import Classification
from cavsync.train.finetune.cached_features import EncodedClips
from cavsync.train.finetune.config import FinetuneConfig
from cavsync.train.finetune.initial import InitialWeights
from cavsync.train.finetune.items import TrainingClips
from cavsync.train.finetune.metrics import FinetuneFacts, FinetuneResult, as_record, figures_of
from cavsync.train.finetune.objective import finetune_step
from cavsync.train.finetune.plots import class_curves
from cavsync.train.finetune.validation import ClassValidation

SCORES_NAME = "scores.json"


def finetune(
    config: FinetuneConfig,
    run_dir: AnyPath,
    *,
    resume: bool = False,
    device: DeviceChoice = "auto",
    callbacks: Sequence[TrainerCallback] = (),
) -> FinetuneResult:
    """Train `config` in `run_dir`, a folder or a URL of a store, to its end, or until SIGTERM or Ctrl-C, which save first.

    On the CPU a resumed run is bit-equal to one that was never stopped. Raises CavsyncError on what the user can fix.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError(
            "A classifier is trained in one process, on one GPU: start this command without torchrun."
        )
    require_installed(config.monitor.trackers)
    chosen = choose_device(device)
    warn_of_slow_precision(chosen, config.precision)
    task = FinetuneTask(config, chosen, callbacks)
    with run_at(run_dir, resume=resume, writes=True) as (folder, mirror), dead_workers_explained():
        result = TrainingLoop(task, folder, resume=resume, callbacks=callbacks, mirror=mirror).run()
        scores = task.scores if result.complete else None
        if scores is not None:
            path = folder / SCORES_NAME
            with explaining_failed_write(path):
                write_atomically(path, json.dumps(as_record(scores), indent=1).encode())
    return FinetuneResult(**vars(result), scores=scores)


class FinetuneTask:
    """Classifier, optimizer and labelled clips of a run."""

    def __init__(
        self, config: FinetuneConfig, device: torch.device, callbacks: Sequence[TrainerCallback] = ()
    ) -> None:
        self.device, self.callbacks, self.initial = device, callbacks, InitialWeights.load(config)
        clips = LabelledClips(
            self.initial.inputs(config.data),
            self.initial.model.config,
            config.head.modality,
            for_training=True,
        )
        self.clips, self.label_task = clips, config.task or task_of(clips.targets)
        if self.label_task == "single-label":
            require_single(clips.targets, clips.where)
        self.config = config = dataclasses.replace(config, data=clips.config, task=self.label_task)
        self.epochs = Epochs(len(clips), config.batch_size, config.seed)
        self.steps_per_epoch = self.epochs.num_batches
        self.num_steps = config.total_steps(len(clips))
        self.model = self.initial.classifier(config, len(clips.labels))
        self.compile = resolved_compile(
            config.compile, device, self.num_steps, is_small=config.cache_features
        )
        compiling = dataclasses.replace(config, compile=self.compile)
        self.step = finetune_step(compiling, self.label_task, self.model, device)
        self.average = WeightAverage(config.average_epochs)
        self.validation = self._open_validation()
        self.scores: Classification | None = None  # of the last validation

    def facts(self, run_dir: Path, steps_done: int) -> FinetuneFacts:
        config, labels = self.config, self.clips.labels
        num_trained = sum(parameter.numel() for parameter in self.step.trained)
        without = (self.clips.targets.sum(dim=0) == 0).nonzero().flatten().tolist()
        return FinetuneFacts(
            run_dir=run_dir,
            preset=config.preset,
            dataset=self.clips.where,
            shares=dataset_shares(config.data, self.clips.shares),
            num_repeated_keys=self.clips.num_repeated_keys(),
            initial_weights=str(self.initial.weights),
            num_clips=len(self.clips),
            num_left_out=self.clips.store.num_left_out,
            num_parameters=num_trained,
            num_steps=self.num_steps,
            steps_done=steps_done,
            batch_size=config.batch_size,
            num_ranks=1,
            device=str(self.device),
            precision=config.precision,
            compiled=bool(self.compile),
            num_classes=len(labels),
            classes_without_clips=[labels.names[number] for number in without],
            task=self.label_task,
            head=config.head.kind,
            modality=config.head.modality,
            num_frozen=sum(parameter.numel() for parameter in self.model.parameters()) - num_trained,
        )

    def batches(self, steps_done: int) -> Generator[Batch, None, None]:
        # Features in memory need no worker processes.
        num_workers = 0 if self.config.cache_features else self.config.data.num_workers
        weights = class_weights(self.clips.targets) if self.config.balanced else None
        shares = None if self.config.data.weights is None else self.clips.shares
        if shares is not None and weights is not None:
            weights = shares.balanced(weights)
        samples = EpochBatchSampler(self.epochs, weights, steps_done, shares=shares)
        yield from load_batches(partial(collate, self._items()), samples, num_workers, self.device)

    def end_epoch(self, epoch: int) -> None:
        self.average.after_epoch(epoch, self.model)

    def state_dict(self, steps_done: int) -> dict[str, Any]:
        return {
            "model_config": as_dict(self.model.config),
            "classifier_config": as_dict(self.model.classifier),
            "clips": self._identity(),
            "average": self.average.state_dict(),
            **self._outputs(),
        }

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        if state["clips"] != self._identity():
            raise RunError(
                f"{self.clips.where} has {len(self.clips)} clips of {len(self.clips.labels)} classes, and they are "
                f"not those that {path} was trained on. {same_data(self.config.data)}"
            )
        epochs_done, before = state["step"] // self.steps_per_epoch, state["config"]["average_epochs"]
        now = self.config.average_epochs
        if now is not None:
            if epochs_in(before, epochs_done) != epochs_in(now, epochs_done):
                raise RunError(
                    f"{path} has averaged epochs {before or 'none'} of the {epochs_done} that are done, and cannot average "
                    f"{now} any more. Resume with average_epochs=none, or without that option."
                )
            self.average.load_state_dict(state["average"], self.device)

    def is_validated_after(self, step: int) -> bool:
        epoch, steps_of_next = divmod(step, self.steps_per_epoch)
        return steps_of_next == 0 and epoch % self.config.validate_every_epochs == 0

    def validate(self, step: int) -> ValidationMetrics | None:
        if self.validation is None:
            return None
        self.scores = self.validation.score(self.model)
        without_clips = {"num_classes_without_clips": len(self.scores.without_positives)}
        figures = figures_of(self.scores) | without_clips
        return ValidationMetrics(step=step, epoch=step / self.steps_per_epoch, figures=figures)

    def save_weights(self, path: Path) -> None:
        """The weights of the last step, or their average where the run asks for one."""
        if self.average.count:
            self.model.load_state_dict(self.average.weights)
        save_model(
            self.model, path, self._outputs() | {"step": self.num_steps, "config": as_dict(self.config)}
        )

    def draw_curves(self, metrics: pd.DataFrame, validations: pd.DataFrame) -> bytes:
        return class_curves(metrics, validations)

    def _open_validation(self) -> ClassValidation | None:
        config = self.config
        if config.validation_split is None:
            return None
        data = dataclasses.replace(config.data, split=config.validation_split, weights=None)
        clips = LabelledClips(data, self.model.config, config.head.modality)
        return ClassValidation(clips, self.label_task, self.device, config.precision, frozen=config.frozen)

    def _items(self) -> TrainingClips | EncodedClips:
        if not self.config.cache_features:
            return TrainingClips(self.clips, self.config)
        return EncodedClips.encode(self.model, self.clips, self.config, self.device, self._on_clip)

    def _on_clip(self, num_done: int, num_clips: int) -> None:
        for callback in self.callbacks:
            callback.on_clip_encoded(num_done, num_clips)

    def _identity(self) -> str:
        """The same for the same clips and classes in the same order, which the numbers in a checkpoint refer to."""
        return fingerprint([*self.clips.store.identifiers(), "classes", *self.clips.labels.ids])

    def _outputs(self) -> dict[str, Any]:
        """The meaning of the model's outputs, for its files."""
        labels = self.clips.labels
        return {"labels": list(labels.ids), "label_names": list(labels.names), "task": self.label_task}
