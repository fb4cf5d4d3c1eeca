"""Plots of a study: learning curves, and the differences to the reference arm with their intervals."""

import math

from matplotlib.figure import Figure

from cavsync.train.reporting.images import png
from cavsync.train.reporting.page import CaptionedImage
from cavsync.train.study.analysis import StudyResults
from cavsync.train.study.metrics import METRICS


def learning_curves(results: StudyResults, budget: str) -> list[CaptionedImage]:
    """A plot a metric: the mean over seeds by step of each arm, and the range of the seeds."""
    metrics = results.folder.study.metrics
    return [CaptionedImage(_learning_curve(results, budget, one), METRICS[one].label) for one in metrics]


def _learning_curve(results: StudyResults, budget: str, metric: str) -> bytes:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for arm in results.folder.study.arms:
        curve = results.curve(arm.name, budget, metric)
        if curve.empty:
            continue
        (line,) = axes.plot(curve["step"], curve["mean"], marker="o", markersize=3, label=arm.name)
        axes.fill_between(curve["step"], curve["min"], curve["max"], alpha=0.15, color=line.get_color())
    if (chance := results.chance(metric)) is not None:
        axes.axhline(chance, color="grey", linestyle=":", label="chance")
    axes.set(xlabel="step", ylabel="%")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    return png(figure)


def difference_plots(results: StudyResults, budget: str) -> list[CaptionedImage]:
    """A plot a metric: each arm less the reference with its interval, and the seeds as small dots."""
    metrics = results.folder.study.metrics
    return [CaptionedImage(_difference_plot(results, budget, one), METRICS[one].label) for one in metrics]


def _difference_plot(results: StudyResults, budget: str, metric: str) -> bytes:
    study = results.folder.study
    others = [arm for arm in study.arms if arm.name != study.reference]
    figure = Figure(figsize=(5.2, 1.2 + 0.45 * len(others)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="grey", linewidth=0.8)
    for row, arm in enumerate(others):
        difference = results.difference(arm.name, budget, metric)
        estimate = difference.estimate
        if math.isnan(estimate.value):
            continue
        axes.plot([*difference.by_seed.values()], [row] * len(difference.by_seed), ".", color="silver")
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color="C0")
        axes.plot(estimate.value, row, "o", color="C0")
    axes.set_xlabel(f"points more than {study.reference}")
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.set_yticks(range(len(others)), [arm.name for arm in others])
    return png(figure)
