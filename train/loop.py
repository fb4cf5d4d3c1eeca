"""Pretraining: one loop, with the step in its middle."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoint import load_model, save_model
from cavsync.model.config import ModelConfig
from cavsync.pipeline.errors import CavsyncError
from cavsync.train.clips import ShardError
from cavsync.train.config import ConfigError, TrainConfig, as_dict
from cavsync.train.data import ClipPairs, Draw
from cavsync.train.order import Position, ShuffledBatches
from cavsync.train.run import RunError, RunFolder
from cavsync.train.schedule import lr_share
from cavsync.train.signals import StopRequest, outlive_the_step
from cavsync.train.step import Losses, TrainStep

DeviceChoice = Literal["auto", "cpu", "cuda"]
DEVICE_CHOICES = get_args(DeviceChoice)
# The fields that a set of weights is tied to; masking and losses may change from run to run.
ARCHITECTURE = (
    *("num_mels", "patch_size", "embed_dim", "num_heads", "encoder_depth", "joint_depth", "mlp_ratio"),
    *("num_registers", "global_tokens", "contrastive_head_depth"),
    *("decoder_dim", "decoder_depth", "decoder_num_heads"),
)


class DeviceError(CavsyncError):
    """A device that this machine does not offer."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known before the first step."""

    run_dir: Path
    preset: str
    dataset: str
    num_clips: int
    num_parameters: int  # those that train
    num_steps: int
    steps_done: int  # more than 0 on resume
    batch_size: int
    device: str
    precision: str
    stored_frame: tuple[int, int]  # height and width of the dataset's pictures
    image_size: int  # resized to this where it differs


@dataclass(frozen=True, kw_only=True)
class StepMetrics(Losses):
    """One step, with speeds since the last logged one."""

    step: int  # steps done, this one included
    epoch: float
    lr: float
    clips_per_s: float
    data_wait_share: float  # of the wall time, in [0, 1]
    seconds: float  # since this process began to train


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """How a call of `pretrain` ended: complete, or stopped by a signal and saved."""

    run_dir: Path
    step: int
    num_steps: int
    checkpoint: Path
    weights: Path | None  # None while steps are left
    last: StepMetrics | None  # None when no step was left to do

    @property
    def complete(self) -> bool:
        return self.step == self.num_steps


def pretrain(
    config: TrainConfig,
    run_dir: Path,
    *,
    resume: bool = False,
    device: DeviceChoice = "auto",
    on_start: Callable[[RunFacts], None] = lambda facts: None,
    on_step: Callable[[StepMetrics], None] = lambda metrics: None,
) -> PretrainResult:
    """Train `config` in `run_dir` to its end, or until SIGTERM or Ctrl-C, which save first.

    With `resume` it continues where the newest checkpoint stands; on the CPU the result is bit-equal to that of
    a run that was never stopped. Raises CavsyncError on what a user can mend: a folder that is taken, a dataset
    too small or changed, another configuration on resume, a loss that is not finite.
    """
    run = Pretraining(config, run_dir, choose_device(device), resume=resume)
    on_start(run.facts())
    return run.train(on_step)


class Pretraining:
    """A run in memory: model, optimizer, data and folder, at step `steps_done`."""

    def __init__(self, config: TrainConfig, run_dir: Path, device: torch.device, *, resume: bool) -> None:
        # Whatever may be refused comes before the folder is made.
        self.clips, self.device = ClipPairs(config.data, config.model, config.seed), device
        self.config = config = dataclasses.replace(config, data=self.clips.config)
        self.batches = ShuffledBatches(len(self.clips), config.batch_size, Position(config.seed, 0, 0))
        self.num_steps = config.total_steps(len(self.clips))
        self.trainer = TrainStep(config, initial_model(config), device)
        self.folder = (RunFolder.reopen if resume else RunFolder.start)(run_dir, config)
        self.steps_done = self._restore() if resume else 0

    def train(self, on_step: Callable[[StepMetrics], None]) -> PretrainResult:
        """The loop. A checkpoint follows the last step, every so many, and a request to stop."""
        config, steps_per_epoch = self.config, len(self.clips) // self.config.batch_size
        watch, metrics = _StopWatch(config.batch_size), None
        with StopRequest() as stop, closing(self._stream()) as stream:
            batches = watch.timed(stream)
            ends = self.steps_done == self.num_steps
            while not ends:
                share = lr_share(config.schedule, self.steps_done, self.num_steps, steps_per_epoch)
                lr = config.optimizer.lr * share

                losses = self.trainer(next(batches), self.steps_done + 1, lr)
                self.steps_done += 1

                metrics = StepMetrics(
                    **dataclasses.asdict(losses),
                    step=self.steps_done,
                    epoch=self.steps_done / steps_per_epoch,
                    lr=lr,
                    **watch.read(),
                )
                on_step(metrics)
                ends = self.steps_done == self.num_steps or stop.requested
                if ends or self.steps_done % config.log_every_steps == 0:
                    self.folder.log(dataclasses.asdict(metrics))
                    watch.restart()
                if ends or self.steps_done % config.checkpoint_every_steps == 0:
                    self._save()
        return self._result(metrics)

    def facts(self) -> RunFacts:
        trained = (p.numel() for p in self.trainer.model.parameters() if p.requires_grad)
        height, width = self.clips.store.frame(0, 0).shape[:2]
        return RunFacts(
            run_dir=self.folder.path,
            preset=self.config.preset,
            dataset=self.config.data.path,
            num_clips=len(self.clips),
            num_parameters=sum(trained),
            num_steps=self.num_steps,
            steps_done=self.steps_done,
            batch_size=self.config.batch_size,
            device=str(self.device),
            precision=self.config.precision,
            stored_frame=(height, width),
            image_size=self.config.model.image_size,
        )

    def _stream(self) -> Generator[dict[str, Any], None, None]:
        """Batches from the step that comes next, without end."""
        num_workers = self.config.data.num_workers
        loader = DataLoader(
            _Loaded(self.clips),
            sampler=self.batches.starting_at(self.batches.position_after(self.steps_done)),
            batch_size=None,
            num_workers=num_workers,
            worker_init_fn=outlive_the_step,
            pin_memory=self.device.type == "cuda",
            # Otherwise the loader takes its seed from torch's own generator, and a resumed run goes astray.
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, ShardError):
                raise batch
            yield batch

    def _save(self) -> None:
        state = {
            "config": as_dict(self.config),
            "model_config": as_dict(self.config.model),
            "clips": _fingerprint(self.clips.store.keys),
            "position": dataclasses.asdict(self.batches.position_after(self.steps_done)),
            "rng": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            **self.trainer.state_dict(),
        }
        self.folder.checkpoints.save(self.steps_done, state)

    def _restore(self) -> int:
        """Continue from the newest checkpoint; from the start where the run was killed before its first."""
        newest = self.folder.checkpoints.newest()
        if newest is None:
            self.folder.forget_after(0)
            return 0
        state = self.folder.checkpoints.load(newest)
        if state["clips"] != _fingerprint(self.clips.store.keys):
            raise RunError(
                f"{self.config.data.path} has {len(self.clips)} clips, and they are not those that {newest} was "
                "trained on: the order of the data would differ. Give the same dataset with --data."
            )
        self.trainer.load_state_dict(state)
        torch.set_rng_state(state["rng"]["cpu"])
        torch.cuda.set_rng_state_all(state["rng"]["cuda"])
        self.folder.forget_after(state["step"])
        return int(state["step"])

    def _result(self, last: StepMetrics | None) -> PretrainResult:
        complete = self.steps_done == self.num_steps
        if complete:
            save_model(self.trainer.model, self.folder.weights)
        checkpoint = self.folder.checkpoints.newest()
        assert checkpoint is not None  # the last step saved one
        return PretrainResult(
            run_dir=self.folder.path,
            step=self.steps_done,
            num_steps=self.num_steps,
            checkpoint=checkpoint,
            weights=self.folder.weights if complete else None,
            last=last,
        )


class _Loaded(TorchDataset[dict[str, Any] | ShardError]):
    """Whole batches of a `ClipPairs`.

    An expected error is a value here: raised in a worker it would arrive with that worker's traceback as its
    message, and keep the workers alive.
    """

    def __init__(self, clips: ClipPairs) -> None:
        self.clips = clips

    def __getitem__(self, draws: list[Draw]) -> dict[str, Any] | ShardError:
        try:
            batch: dict[str, Any] = default_collate([self.clips[draw] for draw in draws])
        except ShardError as error:
            return error
        return batch


def initial_model(config: TrainConfig) -> CavMaeSync:
    """The model at step 0: random by the run's seed, or the weights that the run starts from."""
    torch.manual_seed(config.seed)
    model = CavMaeSync(config.model)
    if config.initial_weights is not None:
        model.load_state_dict(_loaded(config.initial_weights, config.model).state_dict())
    return model


def _loaded(path: str, wanted: ModelConfig) -> CavMaeSync:
    """The model at `path`, its position tables moved to the sizes of `wanted`; ConfigError if it is another."""
    try:
        model = load_model(path, audio_rows=wanted.audio_rows, image_size=wanted.image_size)
    except ValueError as error:  # the model's own CheckpointError
        raise ConfigError(f"initial_weights: {error}") from error
    found, asked = as_dict(model.config), as_dict(wanted)
    other = [
        f"{name} is {found[name]}, not {asked[name]}" for name in ARCHITECTURE if found[name] != asked[name]
    ]
    if other:
        raise ConfigError(
            f"initial_weights={path} holds another model: {'; '.join(other)}. Set model.* to match."
        )
    return model


def choose_device(choice: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" means on this machine."""
    if choice not in DEVICE_CHOICES:
        raise DeviceError(f"There is no device {choice!r}; there are: {', '.join(DEVICE_CHOICES)}.")
    if choice == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "There is no usable CUDA device here. Use --device cpu, or auto to take what there is."
        )
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")


def _fingerprint(keys: list[str]) -> str:
    """The same for the same clips in the same order only."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


class _StopWatch:
    """Throughput, and how much of the time went by in waiting for data, since the last `restart`."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.began_s = batch_size, time.perf_counter()
        self.restart()

    def restart(self) -> None:
        self.restarted_s, self.waited_s, self.num_steps = time.perf_counter(), 0.0, 0

    def timed(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        while True:
            asked_s = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - asked_s
            self.num_steps += 1
            yield batch

    def read(self) -> dict[str, float]:
        now_s = time.perf_counter()
        elapsed_s = now_s - self.restarted_s
        return {
            "clips_per_s": self.num_steps * self.batch_size / elapsed_s,
            "data_wait_share": self.waited_s / elapsed_s,
            "seconds": now_s - self.began_s,
        }
