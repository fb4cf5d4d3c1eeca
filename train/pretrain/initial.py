"""The model that a pretraining begins with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.initial_weights import fetch_initial_weights, load_initial_weights
from cavsync.model.errors import CheckpointError
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.config import PretrainConfig


def fetch_weights(config: PretrainConfig, announce: Callable[[str], None]) -> None:
    """Makes sure that `initial_weights` are on this machine; `announce` gets a text before they are fetched.

    ConfigError where they cannot be fetched, or do not fit.
    """
    if config.initial_weights is not None:
        with _explained():
            fetch_initial_weights(config.initial_weights, config.model, announce)


def initial_model(config: PretrainConfig, ranks: Ranks) -> tuple[CavMaeSync, str]:
    """A model with random weights by the run's seed, or with `initial_weights`; and a description of them.

    The first rank alone reads `initial_weights`, and gives them to the others. ConfigError where they do not fit.
    """
    if config.initial_weights is None:
        return random_model(config), f"random weights of seed {config.seed}"
    model, description = ranks.on_all_ranks(partial(_given_weights if ranks.first else _placeholder, config))
    ranks.give_weights_of_first(model)
    return model, ranks.of_first(description)


def random_model(config: PretrainConfig) -> CavMaeSync:
    """The model of a run at the seed of its random weights."""
    torch.manual_seed(config.seed)
    return CavMaeSync(config.model)


def _given_weights(config: PretrainConfig) -> tuple[CavMaeSync, str]:
    assert config.initial_weights is not None
    with _explained():
        model, report = load_initial_weights(config.initial_weights, config.model, config.seed)
    return model, str(report)


def _placeholder(config: PretrainConfig) -> tuple[CavMaeSync, str]:
    """A model whose weights another rank has."""
    return random_model(config), ""


@contextmanager
def _explained() -> Iterator[None]:
    """ConfigError, with the field's name, for weights that cannot be had or do not fit."""
    try:
        yield
    except CheckpointError as error:
        raise ConfigError(f"initial_weights: {error}") from error
