"""The reports of one evaluation that are compared: read, checked and named, and the settings in which they differ."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.train.errors import EvaluationError
from cavsync.train.reporting.record import RECORD_NAME, SCHEMA_VERSION, Record

# Parts of a record that are compared.
COMPARED = ("figures", "counts", "items_sha256", "checkpoint", "data", "config", "versions")


@dataclass(frozen=True)
class StoredReport:
    """One report, under the shortest name that distinguishes it from the others."""

    name: str
    path: Path  # of report.json
    record: Record


@dataclass(frozen=True)
class Setting:
    """Something that is not the same in all reports."""

    name: str
    values: tuple[Any, ...]


def read_reports(paths: Sequence[Path]) -> tuple[StoredReport, ...]:
    """Raises EvaluationError where reports are missing, damaged, or of different evaluations."""
    files = [_file(path) for path in paths]
    reports = tuple(map(StoredReport, _names(files), files, map(_read, files)))
    if len({one.record["evaluation"] for one in reports}) > 1:
        listed = ", ".join(f"{one.path.parent} is of {one.record['evaluation']}" for one in reports)
        raise EvaluationError(f"Only reports of one evaluation compare: {listed}.")
    return reports


def differing_settings(reports: Sequence[StoredReport]) -> Iterator[Setting]:
    """Where the training of every checkpoint is known, its fields are settings too, as `training.FIELD`."""
    with_training = all(_training(one.record) for one in reports)
    described = [dict(_described(one.record, with_training)) for one in reports]
    for name in dict.fromkeys(name for one in described for name in one):
        values = tuple(one.get(name) for one in described)
        if any(value != values[0] for value in values):
            yield Setting(name, values)


def _training(record: Record) -> Record:
    """The configuration of the run that made the checkpoint; {} where the report has none."""
    training: Record = (record["checkpoint"] or {}).get("training") or {}
    return training


def _described(record: Record, with_training: bool) -> Iterator[tuple[str, Any]]:
    checkpoint = record["checkpoint"]
    if checkpoint is not None:
        checkpoint = {name: value for name, value in checkpoint.items() if name != "training"}
    yield from _flat("checkpoint", checkpoint)
    yield from _flat("data", record["data"])
    if with_training:
        yield from _flat("training", _training(record))
    else:
        yield "training", _training(record).get("preset")
    for name in ("listed", "found", "scored"):
        yield f"counts.{name}", record["counts"][name]
    yield "items_sha256", record["items_sha256"]
    yield "precision", (record.get("inputs") or {}).get("precision")
    yield from _flat("config", record["config"])
    yield from _flat("versions", record["versions"])


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for part, inner in value.items():
            yield from _flat(f"{name}.{part}", inner)
    else:
        yield name, value


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
    if (version := record["schema_version"]) != SCHEMA_VERSION:
        is_newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise EvaluationError(
            f"{file} has schema version {version}, this cavsync reads {SCHEMA_VERSION}; "
            f"{'update cavsync' if is_newer else 'run that evaluation again'}."
        )
    missing = [name for name in COMPARED if name not in record]
    if missing:
        raise EvaluationError(
            f"{file} is damaged: it has no {', '.join(missing)}. Run that evaluation again."
        )
    return record


def _names(files: Sequence[Path]) -> list[str]:
    """The folders of the paths, without those that all begin with and those that all end with."""
    parts = [file.resolve().parent.parts for file in files]
    shortest = min(map(len, parts))
    same = [len({one[depth] for one in parts}) == 1 for depth in range(shortest)]
    first = same.index(False) if False in same else shortest
    names = ["/".join(one[first:]) for one in parts]
    while all("/" in name for name in names) and len({name.rpartition("/")[2] for name in names}) == 1:
        names = [name.rpartition("/")[0] for name in names]
    distinct = all(names) and len(set(names)) == len(names)
    return names if distinct else [f"{number}: {file.parent.name}" for number, file in enumerate(files, 1)]
