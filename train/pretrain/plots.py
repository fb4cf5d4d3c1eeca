"""Curves of a pretraining run, and its reconstructions."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cavsync.train.data.images import IMAGE_MEAN, IMAGE_STD
from cavsync.train.pretrain.held_out import Reconstructions
from cavsync.train.reporting.images import png
from cavsync.train.reporting.page import CaptionedImage
from cavsync.train.reporting.plots import HIDDEN_GREY, MEL_COLOURS, draw_curve, draw_validation

LOSS_TITLES = {
    "reconstruction_audio": "audio reconstruction",
    "reconstruction_image": "image reconstruction",
    "contrastive": "contrastive loss",
}
"""Columns of `metrics.jsonl` and titles of their panels."""


def training_curves(metrics: pd.DataFrame) -> list[CaptionedImage]:
    """One plot a loss and one of the learning rate, over the steps of `metrics.jsonl`."""
    panels = LOSS_TITLES | _of_teacher(metrics) | {"lr": "learning rate"}
    return [CaptionedImage(_training_curve(metrics, column), title) for column, title in panels.items()]


def _training_curve(metrics: pd.DataFrame, column: str) -> bytes:
    figure = Figure(figsize=(4.8, 2.4), layout="constrained")
    draw_curve(figure.subplots(), metrics, column, "")
    return png(figure)


def run_curves(metrics: pd.DataFrame, validations: pd.DataFrame) -> bytes:
    """`curves.png` of a pretraining run: the metrics of its steps, and below them those of its validations."""
    losses = LOSS_TITLES | _of_teacher(metrics)
    figure = Figure(figsize=(3 * (len(losses) + 1), 5), layout="constrained")
    top, bottom = figure.subplots(2, len(losses) + 1)
    for axes, (column, title) in zip(top, (losses | {"lr": "learning rate"}).items(), strict=True):
        draw_curve(axes, metrics, column, title)
    draw_curve(bottom[0], metrics, "accuracy", "accuracy in the batch")
    draw_curve(bottom[1], metrics, "grad_norm", "gradient norm")
    bottom[1].set_yscale("log")
    draw_validation(bottom[2], validations, "r1_audio_to_video", "r1_video_to_audio", "held-out R@1")
    draw_validation(bottom[3], validations, "effective_rank_audio", "effective_rank_image", "effective rank")
    for axes in bottom[4:]:
        axes.set_axis_off()
    return png(figure)


def _of_teacher(metrics: pd.DataFrame) -> dict[str, str]:
    """The panel of a run with a teacher."""
    return {"distillation": "distillation"} if "distillation" in metrics else {}


def draw_reconstructions(inputs: Reconstructions) -> bytes:
    """A PNG with a row for each clip: its image and its log-mel, masked, reconstructed and original."""
    figure = Figure(figsize=(13, 1.9 * len(inputs.audio)), layout="constrained")
    grid = figure.subplots(len(inputs.audio), 6, width_ratios=[1, 1, 1, 1.6, 1.6, 1.6], squeeze=False)
    titles = ("masked", "reconstructed", "original")
    for clip, row in enumerate(grid):
        for axes, image in zip(row[:3], _images(inputs, clip), strict=True):
            axes.imshow(image)
        original = inputs.audio[clip].numpy().T
        scale = {"vmin": original.min(), "vmax": original.max()}
        for axes, mel in zip(row[3:], _mels(inputs, clip), strict=True):
            axes.imshow(mel, origin="lower", aspect="auto", cmap=MEL_COLOURS, **scale)
        for axes in row:
            axes.set_axis_off()
    for axes, title in zip(grid[0], [*titles, *(f"log-mel {title}" for title in titles)], strict=True):
        axes.set_title(title)
    return png(figure)


def _images(inputs: Reconstructions, clip: int) -> list[np.ndarray]:
    """(height, width, 3) in [0, 1]: masked, reconstructed, original."""
    scale = np.array(IMAGE_STD, np.float32), np.array(IMAGE_MEAN, np.float32)
    whole, filled = (
        np.clip(one[clip].cpu().permute(1, 2, 0).numpy() * scale[0] + scale[1], 0, 1)
        for one in (inputs.image, inputs.filled.image)
    )
    removed = inputs.filled.removed_image[clip].cpu().numpy()[..., None]
    return [np.where(removed, HIDDEN_GREY, whole), filled, whole]


def _mels(inputs: Reconstructions, clip: int) -> list[np.ndarray]:
    """(mels, rows): with NaN where patches are masked, reconstructed, original."""
    whole, filled = inputs.audio[clip].numpy(), inputs.filled.audio[clip].cpu().numpy()
    removed = inputs.filled.removed_audio[clip].cpu().numpy()
    return [np.where(removed, np.nan, whole).T, filled.T, whole.T]
