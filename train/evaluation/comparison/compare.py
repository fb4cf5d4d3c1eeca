"""Reports of one evaluation side by side: figures with intervals, differences to the first, and what was not the same."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.comparison.paired import paired_differences
from cavsync.train.reporting.record import RECORD_NAME, SCHEMA_VERSION, Record

# Parts of a record that are looked at.
COMPARED = ("figures", "counts", "items_sha256", "checkpoint", "data", "config", "versions")


@dataclass(frozen=True)
class Reported:
    """One report, under the shortest name that tells it from the others."""

    name: str
    path: Path  # of report.json
    record: Record


@dataclass(frozen=True)
class Cell:
    """A report's figure; None is undefined, or was not measured."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """To the first report. With an interval where the same queries were asked: resampled together, they tell more
    than two intervals do."""

    value: float
    low: float | None
    high: float | None
    intervals_overlap: bool | None  # None where a figure has no interval

    @property
    def verdict(self) -> str:
        if self.low is not None and self.high is not None:
            return "differs" if self.low > 0 or self.high < 0 else "no clear difference"
        if self.intervals_overlap is None:
            return ""
        return "intervals overlap" if self.intervals_overlap else "intervals apart"


@dataclass(frozen=True)
class Row:
    """One figure of all reports."""

    name: str
    unit: str
    chance: float | None  # of the first
    cells: tuple[Cell, ...]
    differences: tuple[Difference | None, ...]  # of the second report and those after it


@dataclass(frozen=True)
class Setting:
    """Something that is not the same in all reports."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Comparison:
    evaluation: str
    reports: tuple[Reported, ...]
    rows: tuple[Row, ...]
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...]  # what makes figures incomparable

    def as_dict(self) -> dict[str, Any]:
        return {
            "evaluation": self.evaluation,
            "reports": [{"name": one.name, "path": str(one.path)} for one in self.reports],
            "figures": {row.name: _figures(row) for row in self.rows},
            "settings": {one.name: one.values for one in self.settings},
            "warnings": self.warnings,
        }


def compare(paths: Sequence[Path]) -> Comparison:
    """Raises EvaluationError where reports are missing, damaged, or of different evaluations."""
    files = [_file(path) for path in paths]
    reports = tuple(map(Reported, _names(files), files, map(_read, files)))
    evaluation = _common_evaluation(reports)
    paired = [paired_differences(reports[0].path, one.path) for one in reports[1:]]
    names = dict.fromkeys(name for one in reports for name in one.record["figures"])
    return Comparison(
        evaluation=evaluation,
        reports=reports,
        rows=tuple(_row(name, reports, paired) for name in names),
        settings=tuple(_settings(reports)),
        warnings=tuple(_warnings(reports)),
    )


def _file(path: Path) -> Path:
    file = path / RECORD_NAME if path.is_dir() else path
    if not file.is_file():
        inside = sorted(path.glob(f"*/{RECORD_NAME}")) if path.is_dir() else []
        hint = f" There is {inside[0].parent}." if inside else ""
        raise EvaluationError(
            f"{file} is not there: name the folder that `cavsync eval` wrote, or its {RECORD_NAME}.{hint}"
        )
    return file


def _read(file: Path) -> Record:
    try:
        record: Any = json.loads(file.read_text())
    except ValueError as error:
        raise EvaluationError(f"{file} is no JSON: {error}. Run that evaluation again.") from error
    if not isinstance(record, dict) or not {"schema_version", "evaluation"} <= record.keys():
        raise EvaluationError(f"{file} is no report of `cavsync eval`.")
    if record["schema_version"] != SCHEMA_VERSION:
        raise EvaluationError(
            f"{file} has schema version {record['schema_version']}, this cavsync reads {SCHEMA_VERSION}; run that "
            "evaluation again."
        )
    missing = [name for name in COMPARED if name not in record]
    if missing:
        raise EvaluationError(
            f"{file} is damaged: it has no {', '.join(missing)}. Run that evaluation again."
        )
    return record


def _names(files: Sequence[Path]) -> list[str]:
    """What tells the paths apart: without the folders that they begin with, and those that they end with."""
    parts = [file.resolve().parent.parts for file in files]
    shortest = min(map(len, parts))
    same = [len({one[place] for one in parts}) == 1 for place in range(shortest)]
    first = same.index(False) if False in same else shortest
    names = ["/".join(one[first:]) for one in parts]
    while all("/" in name for name in names) and len({name.rpartition("/")[2] for name in names}) == 1:
        names = [name.rpartition("/")[0] for name in names]
    distinct = all(names) and len(set(names)) == len(names)
    return names if distinct else [f"{number}: {file.parent.name}" for number, file in enumerate(files, 1)]


def _common_evaluation(reports: Sequence[Reported]) -> str:
    evaluations = [one.record["evaluation"] for one in reports]
    if len(set(evaluations)) > 1:
        listed = ", ".join(f"{one.path.parent} is of {one.record['evaluation']}" for one in reports)
        raise EvaluationError(f"Only reports of one evaluation compare: {listed}.")
    return str(evaluations[0])


def _row(name: str, reports: Sequence[Reported], paired: Sequence[Mapping[str, Any]]) -> Row:
    figures = [one.record["figures"].get(name, {}) for one in reports]
    first = next(figure for figure in figures if figure)
    cells = tuple(Cell(*(figure.get(part) for part in ("value", "low", "high"))) for figure in figures)
    differences = (
        _difference(cells[0], cell, of.get(name)) for cell, of in zip(cells[1:], paired, strict=True)
    )
    return Row(name, first["unit"], first["chance"], cells, tuple(differences))


def _difference(first: Cell, other: Cell, paired: tuple[float, float] | None) -> Difference | None:
    if first.value is None or other.value is None:
        return None
    low, high = paired or (None, None)
    return Difference(other.value - first.value, low, high, _overlap(first, other))


def _overlap(one: Cell, other: Cell) -> bool | None:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low <= other.high and other.low <= one.high


def _settings(reports: Sequence[Reported]) -> Iterator[Setting]:
    described = [dict(_described(one.record)) for one in reports]
    for name in dict.fromkeys(name for one in described for name in one):
        values = tuple(one.get(name) for one in described)
        if any(value != values[0] for value in values):
            yield Setting(name, values)


def _described(record: Record) -> Iterator[tuple[str, Any]]:
    for name in ("checkpoint", "data"):
        yield from _flat(name, record[name])
    for name in ("listed", "found", "scored"):
        yield f"counts.{name}", record["counts"][name]
    yield "items_sha256", record["items_sha256"]
    yield from _flat("config", record["config"])
    yield from _flat("versions", record["versions"])


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for part, inner in value.items():
            yield from _flat(f"{name}.{part}", inner)
    else:
        yield name, value


def _warnings(reports: Sequence[Reported]) -> Iterator[str]:
    first = reports[0]
    for one in reports[1:]:
        if one.record["items_sha256"] != first.record["items_sha256"]:
            counts = " and ".join(f"{two.record['counts']['scored']:,} in {two.name}" for two in (first, one))
            yield f"Not the same items were scored ({counts}), so a difference may come from them."
    others = [one.name for one in reports if one.record["figures"].keys() != first.record["figures"].keys()]
    if others:
        yield f"Figures that only some reports have are left empty in the others ({first.name} against {', '.join(others)})."


def _figures(row: Row) -> dict[str, Any]:
    differences = [None if one is None else {**vars(one), "verdict": one.verdict} for one in row.differences]
    return {
        "unit": row.unit,
        "chance": row.chance,
        "reports": [vars(cell) for cell in row.cells],
        "differences": differences,
    }
