"""The work of the processes in tests with several ranks; they import this file, the tests compare what it returns."""

import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context, set_start_method
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import command_line
from support.known_shards import micro_model, micro_run
from support.trainings import Calls

from cavsync.errors import CavsyncError
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.data.images import normalise_images
from cavsync.train.engine.distributed import Ranks, joined
from cavsync.train.engine.step import TrainStep
from cavsync.train.pretrain import trainer as loop
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.initial import initial_model
from cavsync.train.pretrain.metrics import PretrainLosses
from cavsync.train.pretrain.objective import INPUTS, PretrainObjective

CPU = torch.device("cpu")
# Each takes another way through the model's encoders, masks or losses.
MODELS: list[dict[str, Any]] = [
    {},
    {"global_tokens": "none", "num_registers": 0},
    {"global_tokens": "per-task", "keep_registers": True},
    {"global_local_losses": True, "contrastive_direction": "two-way"},
    {"contrastive_head_depth": 1, "joint_depth": 2},
    {"audio_mask_mode": "time-freq", "mask_ratio_image": 0.5},
    {"mask_ratio_audio": 0.0, "mask_ratio_image": 0.0},
    {"reconstruction_weight": 0.0},
    {"contrastive_weight": 0.0, "contrastive_head_depth": 1},
    {"norm_pix": False, "encoder_depth": 2, "decoder_depth": 2},
]


def run_of(**model: Any) -> PretrainConfig:
    return micro_run(Path(), model=micro_model(**model), batch_size=8)


class SomeRanks:
    """Processes that stay; calling it runs a function of this module in `count` of them, as a launcher would."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def __call__(self, count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        calls = [self.pool.submit(_as_rank, rank, count, port, work, arguments) for rank in range(count)]
        return [call.result() for call in calls]


class TwoRanks(SomeRanks):
    """Two processes that stay; calling it runs a function of this module in both."""

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:  # type: ignore[override]
        return super().__call__(2, work, *arguments)


@contextmanager
def two_ranks() -> Iterator[TwoRanks]:
    """As `forked_ranks`."""
    with ProcessPoolExecutor(2, mp_context=get_context("fork"), initializer=_be_strict) as pool:
        yield TwoRanks(pool)


@contextmanager
def forked_ranks(count: int) -> Iterator[SomeRanks]:
    """Copies of this process, which have imported all already."""
    with ProcessPoolExecutor(count, mp_context=get_context("fork"), initializer=_be_strict) as pool:
        yield SomeRanks(pool)


def _be_strict() -> None:
    """Warnings are errors, as in the tests' own process."""
    warnings.simplefilter("error")


def _as_rank(rank: int, count: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    # The loader's workers would each import torch for seconds otherwise.
    set_start_method("fork", force=True)
    launched = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in launched.items()})
    return work(rank, *arguments)


def some_batch(config: PretrainConfig, seed: int = 0) -> dict[str, Any]:
    """As the loader gives it, of noise."""
    generator, model = torch.Generator().manual_seed(seed), config.model
    size, side = config.batch_size, model.image_size
    batch = {
        "audio": torch.randn(size, model.audio_rows, model.num_mels, generator=generator),
        "image": torch.randint(256, (size, side, side, 3), generator=generator, dtype=torch.uint8),
        "noise_audio": torch.rand(size, model.num_audio_patches, generator=generator),
        "noise_image": torch.rand(size, model.num_image_patches, generator=generator),
        "key": [f"clip{number}" for number in range(size)],
    }
    if config.needs_contrast_noise:
        for name in ("audio", "image"):
            batch[f"contrast_noise_{name}"] = torch.rand(batch[f"noise_{name}"].shape, generator=generator)
    return batch


def part_of(batch: dict[str, Any], rank: int, count: int) -> dict[str, Any]:
    size = len(batch["key"]) // count
    return {name: values[rank * size : (rank + 1) * size] for name, values in batch.items()}


def gradients(config: PretrainConfig, ranks: Ranks) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Losses and gradients of the second backward, each rank on its part."""
    torch.manual_seed(0)
    model = CavMaeSync(config.model)
    objective = PretrainObjective(config, model, CPU, ranks)
    batch = part_of(some_batch(config), ranks.rank, ranks.count)
    for _ in range(2):  # a parameter that was not used shows in the second one
        model.zero_grad()
        losses = objective.backward(batch, lambda loss: loss)
    grads = {name: p.grad.numpy() for name, p in model.named_parameters() if p.requires_grad}
    return {name: value.item() for name, value in losses.items()}, grads


def assert_same_gradients(one: Any, two: Any, tolerance: float = 1e-6) -> None:
    """Of two answers of `gradients`: the losses are equal to the tolerance, and the gradients to that of their length."""
    assert one[0] == pytest.approx(two[0], abs=tolerance, rel=tolerance)
    assert one[1].keys() == two[1].keys()
    first, second = (
        np.concatenate([part.ravel() for part in each[1].values()]).astype(float) for each in (one, two)
    )
    assert np.linalg.norm(first - second) <= tolerance * np.linalg.norm(second)


def rank_gradients(rank: int, configs: list[PretrainConfig]) -> list[Any]:
    with joined(CPU) as ranks:
        return [gradients(config, ranks) for config in configs]


def rank_initial_model(rank: int, config: PretrainConfig) -> tuple[dict[str, np.ndarray], str]:
    """The weights and their description; only the first rank may read the file."""
    if rank > 0:
        config = replace(config, initial_weights="a file that only the first rank has")
    with joined(CPU) as ranks:
        model, description = initial_model(config, ranks)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, description


def local_contrast(config: PretrainConfig, count: int) -> float:
    """The mean of the contrastive losses of the parts of a batch."""
    torch.manual_seed(0)
    model, losses = CavMaeSync(config.model), []
    for rank in range(count):
        audio, image, *noise = (part_of(some_batch(config), rank, count)[name] for name in INPUTS)
        losses.append(model(audio, normalise_images(image), *noise).contrastive.item())
    return float(np.mean(losses))


def train(rank: int, config: PretrainConfig, run_dir: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`pretrain` with a record of the batches; `options` may poison a step or send a signal, in one rank."""
    keys: list[list[str]] = []
    step_of = TrainStep.__call__

    def recorded(trainer: TrainStep, batch: dict[str, Any], step: int, lr: float) -> PretrainLosses:
        keys.append(list(batch["key"]))
        if options.get("poison") == (rank, step):
            batch["audio"] *= float("nan")
        if options.get("lose_shards") == (rank, step):
            for tar in Path(config.data.path, "shards").glob("*.tar"):
                tar.rename(tar.with_suffix(".lost"))
        losses = step_of(trainer, batch, step, lr)
        if options.get("signal") == (rank, step):
            os.kill(os.getpid(), options["number"])
        return losses

    logged: list[int] = []
    TrainStep.__call__ = recorded
    try:
        result = loop.pretrain(
            config,
            run_dir,
            device="cpu",
            resume=options.get("resume", False),
            callbacks=[Calls(on_step=lambda metrics: logged.append(metrics.step))],
        )
        outcome: dict[str, Any] = {
            "step": result.step,
            "complete": result.complete,
            "loss": result.last.losses.loss,
        }
    except CavsyncError as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    finally:
        TrainStep.__call__ = step_of
    return {"keys": keys, "logged": logged, **outcome}


def command(rank: int, arguments: Sequence[str]) -> dict[str, Any]:
    """How `cavsync train pretrain` ends."""
    result = command_line.run("train", "pretrain", *arguments)
    return {"exit_code": result.exit_code, "output": result.output}
