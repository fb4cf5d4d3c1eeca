"""`compare.html`: reports of one evaluation side by side."""

from pathlib import Path
from typing import Any

from cavsync.train.evaluation.comparison.compare import Cell, Comparison, Difference, Row
from cavsync.train.reporting.charts import interval_chart
from cavsync.train.reporting.page import Chart, Report, Section, Table, write_report

MAX_SHOWN = 64  # characters of a setting's value


def write_comparison(comparison: Comparison, path: Path) -> None:
    names = [one.name for one in comparison.reports]
    sections = [figures_section(comparison), settings_section(comparison)]
    report = Report(
        title=f"{comparison.evaluation.capitalize()}, side by side",
        lead=" · ".join(names),
        scores=[],
        sections=sections,
        facts=[(one.name, str(one.path)) for one in comparison.reports],
    )
    write_report(report, path)


def figures_section(comparison: Comparison) -> Section:
    names = [one.name for one in comparison.reports]
    header = ["figure", *(part for _ in names for part in ("score", "95 % interval"))]
    header += [part for _ in names[1:] for part in ("difference", "")]
    groups = [("", 1), *((name, 2) for name in names), *((f"{name} - {names[0]}", 2) for name in names[1:])]
    table = Table(header, [_cells(row) for row in comparison.rows], groups=groups)
    shares = [row for row in comparison.rows if row.unit == "%"]
    charts = []
    if shares:
        lines = {row.name: [(cell.value, cell.low, cell.high) for cell in row.cells] for row in shares}
        charts = [Chart(interval_chart(lines, names), "Scores in %, with their 95 % intervals.")]
    return Section(
        "Figures", " ".join([explanation(comparison), *comparison.warnings]), charts=charts, tables=[table]
    )


def explanation(comparison: Comparison) -> str:
    paired = any(one and one.low is not None for row in comparison.rows for one in row.differences)
    if paired:
        return (
            "Differences are to the first report. Where they have an interval, both models answered the same queries, which "
            "were resampled together: a difference is clear where that interval leaves out 0. Intervals of two scores "
            "may overlap all the same."
        )
    return (
        "Differences are to the first report. Intervals that lie apart tell two models apart; intervals that overlap leave "
        "it open."
    )


def settings_section(comparison: Comparison) -> Section:
    if not comparison.settings:
        return Section("What was not the same", "Nothing: checkpoint, data, choices and versions are equal.")
    rows = [[one.name, *map(shown, one.values)] for one in comparison.settings]
    header = ["setting", *(one.name for one in comparison.reports)]
    return Section("What was not the same", "All else is equal.", tables=[Table(header, rows)])


def shown(value: Any) -> str:
    """A value for a table; of a long one both ends, since paths often differ at the last."""
    text = "none" if value is None else str(value)
    half = MAX_SHOWN // 2
    return text if len(text) <= MAX_SHOWN else f"{text[:half]}...{text[-half:]}"


def score_of(cell: Cell, unit: str) -> str:
    return "" if cell.value is None else f"{cell.value:.{_digits(unit)}f} {unit}".rstrip()


def interval_of(low: float | None, high: float | None, unit: str, sign: str = "") -> str:
    if low is None or high is None:
        return ""
    return f"{low:{sign}.{_digits(unit)}f} to {high:{sign}.{_digits(unit)}f}"


def difference_of(difference: Difference | None, unit: str) -> str:
    if difference is None:
        return ""
    interval = interval_of(difference.low, difference.high, unit, "+")
    return f"{difference.value:+.{_digits(unit)}f}" + (f" ({interval})" if interval else "")


def _cells(row: Row) -> list[str]:
    scores = [
        part
        for cell in row.cells
        for part in (score_of(cell, row.unit), interval_of(cell.low, cell.high, row.unit))
    ]
    differences = [
        part for one in row.differences for part in (difference_of(one, row.unit), one.verdict if one else "")
    ]
    return [row.name, *scores, *differences]


def _digits(unit: str) -> int:
    """Shown after the point: of seconds, ranks and d' more than of %."""
    return 1 if unit == "%" else 2
