"""Plots of what a dataset consists of, as PNG bytes."""

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cavsync.pipeline.inspection.statistics import MelStatistics, Statistics
from cavsync.train.reporting.images import png

ACCENT, QUIET, GOOD = "#d1495b", "#9db4c0", "#2e6f8e"
MAX_BARS = 12


def dataset_plots(statistics: Statistics) -> Iterator[tuple[str, bytes]]:
    """(file name, PNG) of every plot that the dataset has something for."""
    yield "states.png", _states(statistics.states)
    if statistics.clips_per_label:
        yield "labels.png", _labels(statistics.clips_per_label)
    if len(statistics.durations_s):
        yield "durations.png", _durations(statistics)
    if any(statistics.facts.values()):
        yield "sources.png", _sources(statistics.facts)
    if statistics.mel.num_sampled:
        yield "mel.png", _mel(statistics.mel)


def _states(states: Mapping[str, int]) -> bytes:
    figure, axes = _figure(1 + 0.3 * len(states))
    _bars(axes, states)
    axes.set_title("clips by state", loc="left")
    return png(figure)


def _labels(clips: Mapping[str, int]) -> bytes:
    """Labels in order of their clips: how long the tail is."""
    figure, axes = _figure(2.8)
    axes.bar(np.arange(len(clips)), list(clips.values()), width=0.9 if len(clips) <= 30 else 1.0, color=QUIET)
    axes.set_title(f"clips per label, {len(clips):,} labels, most first", loc="left")
    if max(clips.values()) > 20 * max(1, min(clips.values())):
        axes.set_yscale("symlog", linthresh=1)
    _count(axes)
    axes.set_xlim(-0.5, len(clips) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(clips) <= 30:
        axes.set_xticks(range(len(clips)), list(clips), rotation=45, ha="right")
    axes.set_ylabel("clips")
    return png(figure)


def _durations(statistics: Statistics) -> bytes:
    figure, axes = _figure(2.4)
    counts, _, _ = axes.hist(statistics.durations_s, bins=60, color=QUIET)
    if np.max(counts) > 100:  # a few odd durations among many
        axes.set_yscale("symlog", linthresh=1)
    _count(axes)
    axes.set_title("how long the prepared clips are", loc="left")
    axes.set_xlabel("seconds")
    axes.set_ylabel("clips")
    return png(figure)


def _sources(facts: Mapping[str, Mapping[str, int]]) -> bytes:
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    for axes, (title, counts) in zip(figure.subplots(2, 3).flat, facts.items(), strict=True):
        _bars(axes, counts)
        axes.set_title(title, loc="left")
    return png(figure)


def _mel(mel: MelStatistics) -> bytes:
    """Mean and spread of each mel band; lines of the whole, and of what models expect."""
    figure, axes = _figure(3.4)
    bands, mean, std = np.arange(len(mel.band_mean)), np.array(mel.band_mean), np.array(mel.band_std)
    axes.fill_between(bands, mean - std, mean + std, color=QUIET, alpha=0.45, label="one deviation")
    axes.plot(bands, mean, color=GOOD, label="mean of the band")
    axes.axhline(mel.mean or 0.0, color=GOOD, linestyle="--", linewidth=1, label="mean of the dataset")
    axes.axhline(
        mel.reference_mean, color=ACCENT, linestyle="--", linewidth=1, label=f"published, {mel.reference}"
    )
    axes.set_title(f"log-mel by band, over {mel.num_sampled:,} clips", loc="left")
    axes.set_xlabel("mel band")
    axes.set_xlim(0, len(bands) - 1)
    axes.legend(frameon=False, fontsize=8, ncols=4)
    return png(figure)


def _count(axes: Axes) -> None:
    """The height is a whole number."""
    axes.set_ylim(bottom=0)
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _bars(axes: Axes, counts: Mapping[str, int]) -> None:
    """The most frequent ones, the most frequent on top; the rest in one bar."""
    shown = dict(list(counts.items())[:MAX_BARS])
    if len(counts) > MAX_BARS:
        shown[f"{len(counts) - MAX_BARS} others"] = sum(counts.values()) - sum(shown.values())
    bars = axes.barh(list(shown), list(shown.values()), color=QUIET, height=0.6)
    axes.bar_label(bars, [f"{count:,}" for count in shown.values()], padding=4, fontsize=8)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.margins(x=0.15)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
