"""Curves of a fine-tuning run."""

import pandas as pd
from matplotlib.figure import Figure

from cavsync.train.reporting.images import png
from cavsync.train.reporting.plots import draw_curve, draw_validation


def class_curves(metrics: pd.DataFrame, validations: pd.DataFrame) -> bytes:
    """`curves.png` of a run that trains a classifier: the metrics of its steps, and the scores of its validations."""
    figure = Figure(figsize=(12, 2.6), layout="constrained")
    *steps, scores = figure.subplots(1, 4)
    titles = {"loss": "loss", "grad_norm": "gradient norm", "lr": "learning rate of the encoders"}
    for axes, (column, title) in zip(steps, titles.items(), strict=True):
        draw_curve(axes, metrics, column, title)
    draw_validation(scores, validations, "mean_average_precision", "top1", "validation")
    return png(figure)
