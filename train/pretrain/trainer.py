"""Pretraining as a task of the training loop."""

import dataclasses
import logging
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.storage.path import AnyPath
from cavsync.train.choices import DeviceChoice
from cavsync.train.data.loader import ClipSource, IndexedSource, dataset_shares, same_data
from cavsync.train.data.pair_rule import Batch
from cavsync.train.data.sampler import Epochs
from cavsync.train.data.stream.source import StreamedSource
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.config import as_dict
from cavsync.train.engine.device import choose_device, resolved_compile, warn_of_slow_precision
from cavsync.train.engine.distributed import Ranks, joined
from cavsync.train.engine.loop import TrainingLoop
from cavsync.train.engine.metrics import RunResult, ValidationMetrics
from cavsync.train.engine.mirror.run_mirror import run_at
from cavsync.train.engine.overlap.loader_processes import dead_workers_explained
from cavsync.train.engine.run_folder import RunError
from cavsync.train.engine.saving.checkpoints import Checkpoints
from cavsync.train.engine.tracking.trackers import require_installed
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.held_out import HeldOutClips
from cavsync.train.pretrain.initial import initial_model, random_model
from cavsync.train.pretrain.metrics import PretrainFacts
from cavsync.train.pretrain.objective import pretrain_step
from cavsync.train.pretrain.plots import draw_reconstructions, run_curves
from cavsync.train.pretrain.teacher import num_teacher_parameters

logger = logging.getLogger(__name__)


def pretrain(
    config: PretrainConfig,
    run_dir: AnyPath,
    *,
    resume: bool = False,
    device: DeviceChoice = "auto",
    callbacks: Sequence[TrainerCallback] = (),
) -> RunResult:
    """Train `config` in `run_dir`, a folder or a URL of a store, to its end, or until SIGTERM or Ctrl-C, which save first.

    With `resume` it continues from the newest whole checkpoint; on the CPU the result is bit-equal to that of a run
    that was never stopped. Under torchrun every process calls this with the same arguments: together they train one
    model, and the first of them writes the folder and calls the `callbacks`. Raises CavsyncError on what a user can
    mend: a folder that is taken, a dataset too small or changed, another configuration on resume, a loss that is not
    finite.
    """
    require_installed(config.monitor.trackers)
    chosen = choose_device(device)
    warn_of_slow_precision(chosen, config.precision)
    with (
        joined(chosen) as ranks,
        run_at(run_dir, resume=resume, writes=ranks.first) as (folder, mirror),
        dead_workers_explained(),
    ):
        # A checkpoint holds all weights, so that a resumed run needs those of step 0 no more.
        resumes = resume and Checkpoints(folder, mirror=mirror).newest() is not None
        task = PretrainTask(config, chosen, ranks, resumes=resumes)
        loop = TrainingLoop(task, folder, resume=resume, ranks=ranks, callbacks=callbacks, mirror=mirror)
        return loop.run()


class PretrainTask:
    """Model, optimizer and clips of a pretraining run; with `resumes` its weights are to come from a checkpoint."""

    def __init__(
        self, config: PretrainConfig, device: torch.device, ranks: Ranks, *, resumes: bool = False
    ) -> None:
        self.device, self.ranks = device, ranks
        ranks.on_all_ranks(partial(config.batch_of_a_rank, ranks.count))
        self.source = ranks.on_all_ranks(partial(open_source, config))
        self.config = config = dataclasses.replace(config, data=self.source.config)
        self.epochs = Epochs(len(self.source), config.batch_size, config.seed)
        self.num_steps, self.steps_per_epoch = config.total_steps(len(self.source)), self.epochs.num_batches
        self.model, self.initial_weights = (
            (random_model(config), "") if ranks.any(resumes) else initial_model(config, ranks)
        )
        self.held_out = ranks.on_all_ranks(self._open_held_out)
        self.compile = resolved_compile(config.compile, device, self.num_steps)
        self.step = pretrain_step(
            dataclasses.replace(config, compile=self.compile), self.model, device, ranks
        )

    def facts(self, run_dir: Path, steps_done: int) -> PretrainFacts:
        return PretrainFacts(
            run_dir=run_dir,
            preset=self.config.preset,
            dataset=", ".join(self.config.data.paths),
            shares=dataset_shares(self.config.data, self.source.shares),
            num_repeated_keys=self.source.num_repeated_keys(),
            initial_weights=self.initial_weights,
            num_clips=len(self.source),
            num_left_out=self.source.num_left_out,
            num_parameters=sum(parameter.numel() for parameter in self.step.trained),
            num_steps=self.num_steps,
            steps_done=steps_done,
            batch_size=self.config.batch_size,
            num_ranks=self.ranks.count,
            device=str(self.device),
            precision=self.config.precision,
            compiled=bool(self.compile),
            stored_frame=self.source.stored_frame(),
            image_size=self.config.model.image_size,
            group_size=self.config.group_size(self.ranks.count),
            num_teacher_parameters=num_teacher_parameters(self.config),
        )

    def batches(self, steps_done: int) -> Generator[Batch, None, None]:
        return self.source.batches(self.epochs.position_after(steps_done), self.ranks, self.device)

    def end_epoch(self, epoch: int) -> None:
        """Nothing: the last weights are the result."""

    def state_dict(self, steps_done: int) -> dict[str, Any]:
        return {
            "model_config": as_dict(self.config.model),
            "initial_weights": self.initial_weights,
            "clips": self.source.identity(),
            "position": dataclasses.asdict(self.epochs.position_after(steps_done)),
        }

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        if state["clips"] != self.source.identity():
            raise RunError(
                f"{', '.join(self.config.data.paths)} has {len(self.source)} clips, and they are not those that {path} was "
                f"trained on: the order of the data would differ. {same_data(self.config.data)}"
            )
        if self.config.negatives == "local" and state["num_ranks"] != self.ranks.count:
            raise RunError(
                f"{path} was trained by {state['num_ranks']} processes, these are {self.ranks.count}: with "
                "negatives=local each clip would be compared with others. Start as many, or another run."
            )
        self.initial_weights = state["initial_weights"]

    def is_validated_after(self, step: int) -> bool:
        every = self.config.monitor.every_steps
        return every is not None and step % every == 0

    @torch.no_grad()
    def validate(self, step: int) -> ValidationMetrics | None:
        if self.held_out is None:
            return None
        self.model.eval()
        try:
            scores = self.held_out.score(self.model, self.device)
            images = {}
            if self.config.monitor.num_images:
                reconstructions = self.held_out.reconstruct(self.model, self.device)
                images["reconstructions"] = draw_reconstructions(reconstructions)
        finally:
            self.model.train()
        epoch, figures = step / self.steps_per_epoch, dataclasses.asdict(scores)
        return ValidationMetrics(step=step, epoch=epoch, figures=figures, images=images)

    def save_weights(self, path: Path) -> None:
        training = {"step": self.num_steps, "initial_weights": self.initial_weights}
        save_model(self.model, path, training | {"config": as_dict(self.config)})

    def draw_curves(self, metrics: pd.DataFrame, validations: pd.DataFrame) -> bytes:
        return run_curves(metrics, validations)

    def _open_held_out(self) -> HeldOutClips | None:
        """None, with a warning, where the dataset has no such split; None too where it is not on a disk."""
        config = self.config
        if not self.ranks.first or config.monitor.every_steps is None or config.data.source == "stream":
            return None
        try:
            return HeldOutClips(config.data, config.model, config.monitor)
        except DatasetError as error:
            logger.warning(
                "No validation on held-out clips: %s Set monitor.split, or monitor.every_steps=none.", error
            )
            return None


def require_full_batch(config: PretrainConfig) -> None:
    """TooFewClipsError where the clips of all splits together do not fill one batch; reads no index where they do."""
    summaries = [Dataset.open(path).summary for path in config.data.paths]
    if sum(summary["states"].get(ClipState.OK, 0) for summary in summaries) < config.batch_size:
        Epochs(len(open_source(config)), config.batch_size, config.seed)


def open_source(config: PretrainConfig) -> ClipSource:
    """The clips that `config` trains on; DatasetError where they are not there."""
    given = config.data, config.model, config.batch_size, config.seed
    if config.data.source == "index":
        return IndexedSource(*given, contrast_noise=config.needs_contrast_noise)
    return StreamedSource(*given, contrast_noise=config.needs_contrast_noise)
