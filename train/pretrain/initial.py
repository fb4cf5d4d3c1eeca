"""The model that a pretraining begins with."""

import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.initial_weights import load_initial_weights
from cavsync.model.errors import CheckpointError
from cavsync.train.engine.config import ConfigError
from cavsync.train.pretrain.config import PretrainConfig


def initial_model(config: PretrainConfig) -> tuple[CavMaeSync, str]:
    """A model with random weights by the run's seed, or with `initial_weights`; and a description of them.

    ConfigError where the weights do not fit.
    """
    if config.initial_weights is None:
        torch.manual_seed(config.seed)
        return CavMaeSync(config.model), f"random weights of seed {config.seed}"
    try:
        model, report = load_initial_weights(config.initial_weights, config.model, config.seed)
    except CheckpointError as error:
        raise ConfigError(f"initial_weights: {error}") from error
    return model, str(report)
