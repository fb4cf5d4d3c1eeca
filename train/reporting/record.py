"""What every evaluation writes: `report.html` for people, `report.json` for programs and `cavsync eval compare`.

The record, in which every estimate holds value, low and high (95 % interval), chance and unit; null is undefined:

schema_version  evaluation
figures         name -> an estimate, and a note
counts          listed, found, scored, and each unusable item with its state and reason
items_sha256    of the ids of what was scored: equal in two reports of the same items
checkpoint      path, sha256 and training, the configuration of the run that made it, null where that is not known; null
                where a file of embeddings was scored
data            path, and sha256 of what defines it: dataset.json, or the list
config          the choices that decide the figures
inputs          what the command was given, by which a later report of the same replaces this one
created         when
results         the evaluation's own details
versions        of the tools
"""

import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cavsync.model.checkpoints.files.checkpoint_file import read_records
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.storage.path import sha256
from cavsync.train.data.inputs import run_config
from cavsync.train.reporting.coverage import Coverage
from cavsync.train.reporting.inputs import ResultInputs, file_input
from cavsync.train.reporting.page import Report, Score, Section, unusable_sections, write_report

SCHEMA_VERSION = 4
RECORD_NAME, PAGE_NAME = "report.json", "report.html"
TOOLS = ("cavsync", "torch", "torchvision", "torchaudio", "timm", "numpy", "scikit-learn")

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What an evaluation found: a page for people and a record for programs are made from it."""

    evaluation: str
    """One word for programs; only results of one evaluation compare."""
    title: str
    lead: str
    scores: Sequence[Score]
    """The figures, row by row of the table."""
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]]
    """Name and value of what was run, for the foot of the page."""
    coverage: Coverage
    items: Iterable[str]
    """Ids of what was scored, in any order."""
    weights: Path | None
    """None where the embeddings came from elsewhere."""
    data: Path
    defined_by: Path
    """The file, or folder of files, that says what `data` consists of."""
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    """The evaluation's own details."""


def write_evaluation(result: EvaluationResult, out: Path, inputs: ResultInputs | None = None) -> Record:
    """Writes `report.html` and then `report.json` in `out`; returns the content of the latter.

    `inputs` are what a command was given; by default they are those that the result states.
    """
    inputs = inputs or stated_inputs(result)
    sections = [*result.sections, *unusable_sections(result.coverage)]
    record = as_record(result) | {"inputs": json.loads(inputs.as_json())}
    record |= {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    facts = [*result.facts, *_training_facts(result.weights)]
    report = Report(result.title, result.lead, result.scores, sections, facts, inputs)
    write_report(report, out / PAGE_NAME)
    content = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomically(out / RECORD_NAME, content.encode())
    return record


def stated_inputs(result: EvaluationResult) -> ResultInputs:
    named = {
        "checkpoint": None if result.weights is None else file_input(result.weights),
        "data": {"path": str(result.data.resolve()), "sha256": content_sha256(result.defined_by)},
        "options": plain(result.config),
    }
    return ResultInputs(result.evaluation, named)


def as_record(result: EvaluationResult) -> Record:
    """The content of `report.json`."""
    items, weights, num_scored = sorted(result.items), result.weights, result.coverage.num_scored
    assert len(items) == num_scored, f"{len(items)} items were scored, {num_scored} counted"
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation": result.evaluation,
        "figures": {one.name: plain(one.estimate) | {"note": one.note} for one in result.scores},
        "counts": result.coverage.as_dict(),
        "items_sha256": hashlib.sha256("\n".join(items).encode()).hexdigest(),
        "checkpoint": None if weights is None else _checkpoint(weights),
        "data": {"path": str(result.data), "sha256": content_sha256(result.defined_by)},
        "config": plain(result.config),
        "results": plain(result.results),
        "versions": {"python": platform.python_version(), **{tool: version(tool) for tool in TOOLS}},
    }


def _checkpoint(weights: Path) -> dict[str, Any]:
    return {"path": str(weights), "sha256": sha256(weights), "training": plain(run_config(weights))}


def _training_facts(weights: Path | None) -> list[tuple[str, str]]:
    """What the training of `weights` was and started from, where that is known."""
    config = None if weights is None else run_config(weights)
    if weights is None or config is None:
        return []
    recorded = (read_records(weights).get("training") or {}).get("initial_weights")
    started = recorded or config.get("initial_weights") or "random weights"
    return [("preset of the training", str(config.get("preset"))), ("training started from", str(started))]


def content_sha256(path: Path) -> str:
    """Of a file; of a folder's files and their names."""
    if path.is_file():
        return sha256(path)
    inside = sorted(one for one in path.rglob("*") if one.is_file())
    listed = "\n".join(f"{sha256(one)} {one.relative_to(path)}" for one in inside)
    return hashlib.sha256(listed.encode()).hexdigest()


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: records as objects, paths as text, NaN and infinity as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
