"""`compare.html`: reports of one evaluation side by side."""

import math
from pathlib import Path
from typing import Any

from cavsync.train.evaluation.comparison.compare import Comparison, Difference, FigureComparison
from cavsync.train.reporting.charts import interval_chart
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.inputs import ResultInputs
from cavsync.train.reporting.page import Chart, Report, Section, Table, write_report

MAX_SHOWN = 64  # characters of a setting's value


def write_comparison(comparison: Comparison, path: Path, inputs: ResultInputs | None = None) -> None:
    names = [one.name for one in comparison.reports]
    sections = [figures_section(comparison), settings_section(comparison)]
    report = Report(
        title=f"{comparison.evaluation.capitalize()}, side by side",
        lead=" · ".join(names),
        scores=[],
        sections=sections,
        facts=[(one.name, str(one.path)) for one in comparison.reports],
        inputs=inputs,
    )
    write_report(report, path)


def figures_section(comparison: Comparison) -> Section:
    names = [one.name for one in comparison.reports]
    header = ["figure", *(part for _ in names for part in ("score", "95 % interval"))]
    header += [part for _ in names[1:] for part in ("difference", "")]
    groups = [("", 1), *((name, 2) for name in names), *((f"{name} - {names[0]}", 2) for name in names[1:])]
    table = Table(header, [_cells(figure) for figure in comparison.figures], groups=groups)
    percentages = {one.name: one.estimates for one in comparison.figures if one.unit == "%"}
    charts = []
    if percentages:
        charts = [Chart(interval_chart(percentages, names), "Scores in %, with their 95 % intervals.")]
    return Section(
        "Figures", " ".join([explanation(comparison), *comparison.warnings]), charts=charts, tables=[table]
    )


def explanation(comparison: Comparison) -> str:
    paired = any(
        one and one.estimate.low is not None for figure in comparison.figures for one in figure.differences
    )
    if paired:
        return (
            "Differences are to the first report. Where they have an interval, both models answered the same queries, and it "
            "counts those that only one of them found: a difference is clear where that interval leaves out 0. Intervals of "
            "two scores may overlap all the same."
        )
    return (
        "Differences are to the first report. Where two intervals lie apart, the models differ; where they overlap, the "
        "question stays open."
    )


def settings_section(comparison: Comparison) -> Section:
    if not comparison.settings:
        return Section(
            "Differences of the runs", "None: checkpoint, training, data, choices and versions are equal."
        )
    rows = [[one.name, *map(shown, one.values)] for one in comparison.settings]
    header = ["setting", *(one.name for one in comparison.reports)]
    return Section("Differences of the runs", "All else is equal.", tables=[Table(header, rows)])


def shown(value: Any) -> str:
    """A value for a table; of a long one both ends, since paths often differ in their last part."""
    text = "none" if value is None else str(value)
    half = MAX_SHOWN // 2
    return text if len(text) <= MAX_SHOWN else f"{text[:half]}...{text[-half:]}"


def score_of(estimate: Estimate, unit: str) -> str:
    return "" if math.isnan(estimate.value) else f"{estimate.value:.{_digits(unit)}f} {unit}".rstrip()


def interval_of(estimate: Estimate, unit: str, sign: str = "") -> str:
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        return ""
    return f"{low:{sign}.{_digits(unit)}f} to {high:{sign}.{_digits(unit)}f}"


def difference_of(difference: Difference | None, unit: str) -> str:
    if difference is None:
        return ""
    interval = interval_of(difference.estimate, unit, "+")
    return f"{difference.estimate.value:+.{_digits(unit)}f}" + (f" ({interval})" if interval else "")


def _cells(figure: FigureComparison) -> list[str]:
    unit = figure.unit
    scores = [part for one in figure.estimates for part in (score_of(one, unit), interval_of(one, unit))]
    differences = [
        part for one in figure.differences for part in (difference_of(one, unit), one.verdict if one else "")
    ]
    return [figure.name, *scores, *differences]


def _digits(unit: str) -> int:
    """The number of decimals: seconds, ranks and d' have more than %."""
    return 1 if unit == "%" else 2
