"""Reports of one evaluation side by side: figures with intervals, differences to the first, and other differences."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.train.evaluation.comparison.paired import paired_differences
from cavsync.train.evaluation.comparison.reports import (
    Setting,
    StoredReport,
    differing_settings,
    read_reports,
)
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.record import plain


@dataclass(frozen=True)
class Difference:
    """To the first report. It has an interval where both models answered the same queries, of those that only one
    of them found: that says more than the intervals of the two figures."""

    estimate: Estimate
    intervals_overlap: bool | None  # None where a figure has no interval

    @property
    def verdict(self) -> str:
        low, high = self.estimate.low, self.estimate.high
        if low is not None and high is not None:
            return "differs" if low > 0 or high < 0 else "no clear difference"
        if self.intervals_overlap is None:
            return ""
        return "intervals overlap" if self.intervals_overlap else "intervals apart"


@dataclass(frozen=True)
class FigureComparison:
    """One figure of all reports; NaN where a report does not have it, or where it is undefined."""

    name: str
    unit: str
    chance: float | None  # of the first report that has the figure
    estimates: tuple[Estimate, ...]
    differences: tuple[Difference | None, ...]  # of the second report and those after it


@dataclass(frozen=True)
class Comparison:
    evaluation: str
    reports: tuple[StoredReport, ...]
    figures: tuple[FigureComparison, ...]
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...]  # reasons why figures do not compare

    def as_dict(self) -> dict[str, Any]:
        return {
            "evaluation": self.evaluation,
            "reports": [{"name": one.name, "path": str(one.path)} for one in self.reports],
            "figures": {one.name: _as_dict(one) for one in self.figures},
            "settings": {one.name: one.values for one in self.settings},
            "warnings": self.warnings,
        }


def compare(paths: Sequence[Path]) -> Comparison:
    """Raises EvaluationError where reports are missing, damaged, or of different evaluations."""
    reports = read_reports(paths)
    paired = [paired_differences(reports[0].path, one.path) for one in reports[1:]]
    names = dict.fromkeys(name for one in reports for name in one.record["figures"])
    return Comparison(
        evaluation=str(reports[0].record["evaluation"]),
        reports=reports,
        figures=tuple(_compared(name, reports, paired) for name in names),
        settings=tuple(differing_settings(reports)),
        warnings=tuple(_warnings(reports)),
    )


def _compared(
    name: str, reports: Sequence[StoredReport], paired: Sequence[Mapping[str, Estimate]]
) -> FigureComparison:
    figures = [one.record["figures"].get(name, {}) for one in reports]
    first = next(figure for figure in figures if figure)
    estimates = tuple(map(_estimate, figures))
    differences = (
        _difference(estimates[0], other, by_name.get(name))
        for other, by_name in zip(estimates[1:], paired, strict=True)
    )
    return FigureComparison(name, first["unit"], first["chance"], estimates, tuple(differences))


def _estimate(figure: Mapping[str, Any]) -> Estimate:
    """A figure of a record, whose undefined values are null; {} for one that the record lacks."""
    value = figure.get("value")
    low, high, chance = (figure.get(part) for part in ("low", "high", "chance"))
    return Estimate(math.nan if value is None else value, low, high, chance, figure.get("unit", ""))


def _difference(first: Estimate, other: Estimate, paired: Estimate | None) -> Difference | None:
    if math.isnan(first.value) or math.isnan(other.value):
        return None
    low, high = (paired.low, paired.high) if paired else (None, None)
    change = Estimate(other.value - first.value, low, high, unit=first.unit)
    return Difference(change, _overlap(first, other))


def _overlap(one: Estimate, other: Estimate) -> bool | None:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low <= other.high and other.low <= one.high


def _warnings(reports: Sequence[StoredReport]) -> Iterator[str]:
    first = reports[0]
    for one in reports[1:]:
        if one.record["items_sha256"] != first.record["items_sha256"]:
            counts = " and ".join(f"{two.record['counts']['scored']:,} in {two.name}" for two in (first, one))
            yield f"Not the same items were scored ({counts}), so a difference may come from them."
    others = [one.name for one in reports if one.record["figures"].keys() != first.record["figures"].keys()]
    if others:
        yield f"Figures that only some reports have are left empty in the others ({first.name} against {', '.join(others)})."


def _as_dict(figure: FigureComparison) -> dict[str, Any]:
    return {
        "unit": figure.unit,
        "chance": figure.chance,
        "reports": [_interval(one) for one in figure.estimates],
        "differences": [
            one
            and {
                **_interval(one.estimate),
                "intervals_overlap": one.intervals_overlap,
                "verdict": one.verdict,
            }
            for one in figure.differences
        ],
    }


def _interval(estimate: Estimate) -> dict[str, Any]:
    return {name: plain(getattr(estimate, name)) for name in ("value", "low", "high")}
