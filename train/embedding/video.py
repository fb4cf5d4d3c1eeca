"""One's own video as vectors: each picture, and each window of the sound, in the space that both share."""

from dataclasses import replace
from pathlib import Path

import torch

from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.pipeline.decoding.video import read_footage
from cavsync.train.data.config import DataConfig
from cavsync.train.data.inputs import PUBLISHED_INPUTS, find_weights, trained_inputs
from cavsync.train.data.pairs import WindowRule
from cavsync.train.embedding.sliding import AVClip, WindowEmbeddings, WindowEncoder


def video_features(
    checkpoint: Path | str,
    video: Path | str,
    *,
    pictures_per_s: float = 2.0,
    step_s: float = 0.5,
    device: torch.device | str = "cpu",
) -> WindowEmbeddings:
    """Of a video of any length, `pictures_per_s` pictures, and windows of sound that begin every `step_s` seconds.

    Raises CavsyncError for a checkpoint or a video that cannot be used.
    """
    weights = find_weights(Path(checkpoint))
    model = load_model(weights).to(device)
    window = WindowRule.of(video_inputs(weights), model.config.audio_rows)
    step_rows = max(1, round(step_s * MEL_ROWS_PER_S))
    side = model.config.image_size
    footage = read_footage(Path(video), pictures_per_s, side)
    slider = WindowEncoder(model, window, "time", step_rows, torch.device(device))
    return slider.slide(AVClip.of(Path(video).name, footage, side))


def video_inputs(weights: Path) -> DataConfig:
    """How the model was fed; but published alignment goes by a clip's 16 frame numbers, which a video does not have."""
    return replace(trained_inputs(weights) or PUBLISHED_INPUTS, alignment="time")
