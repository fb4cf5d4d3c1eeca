"""Curves of a fine-tuning run."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from cavsync.train.reporting.plots import draw_curve, draw_validation, png


def class_curves(metrics: pd.DataFrame, result: Mapping[str, float]) -> bytes:
    """`curves.png` of a run that learns classes: what each step measured, the scores of its epochs and its result."""
    figure = Figure(figsize=(12, 2.6), layout="constrained")
    *steps, scores = figure.subplots(1, 4)
    titles = {"loss": "loss", "grad_norm": "gradient norm", "lr": "learning rate of the encoders"}
    for axes, (column, title) in zip(steps, titles.items(), strict=True):
        draw_curve(axes, metrics, column, title)
    scored = metrics.dropna(subset="top1") if "top1" in metrics else pd.DataFrame()
    if result:
        scored = pd.concat([scored, pd.DataFrame([{"step": metrics["step"].iloc[-1], **result}])])
    draw_validation(scores, scored, "mean_average_precision", "top1", "validation")
    return png(figure)
