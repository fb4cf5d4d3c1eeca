"""`report.json`: what every evaluation writes for programs, and for `cavsync eval compare`.

schema_version  evaluation
figures         name -> value, unit, low and high (95 % interval), chance, note; null is undefined
counts          listed, found, scored, and each unusable item with its state and reason
items_sha256    of the ids of what was scored: equal in two reports of the same items
checkpoint      path and sha256; null where somebody else's answers were scored
data            path, and sha256 of what defines it: dataset.json, or the list
config          the choices that decide the figures
results         the evaluation's own details
versions        of the tools
"""

import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.storage.path import sha256
from cavsync.train.reporting.coverage import Coverage
from cavsync.train.reporting.page import Score

SCHEMA_VERSION = 2
RECORD_NAME = "report.json"
TOOLS = ("cavsync", "torch", "torchvision", "torchaudio", "timm", "numpy", "scikit-learn")

Record = dict[str, Any]


def make_record(
    evaluation: str,
    *,
    scores: Sequence[Score],
    coverage: Coverage,
    items: Iterable[str],
    weights: Path | None,
    data: Path,
    defined_by: Path,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
) -> Record:
    """The content of report.json. `items` are the ids of what was scored, in any order; `scores` the table's rows.

    `data` is what was scored, `defined_by` the file (or folder of files) that says what it consists of.
    """
    items = sorted(items)
    assert len(items) == coverage.num_scored, f"{len(items)} items were scored, {coverage.num_scored} counted"
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation": evaluation,
        "figures": {score.name: _figure(score) for score in scores},
        "counts": coverage.as_dict(),
        "items_sha256": hashlib.sha256("\n".join(items).encode()).hexdigest(),
        "checkpoint": None if weights is None else {"path": str(weights), "sha256": sha256(weights)},
        "data": {"path": str(data), "sha256": content_sha256(defined_by)},
        "config": plain(config),
        "results": plain(results),
        "versions": {"python": platform.python_version(), **{tool: version(tool) for tool in TOOLS}},
    }


def write_record(record: Record, out: Path) -> Record:
    """Writes `report.json` in `out`, and returns it."""
    write_atomically(
        out / RECORD_NAME, json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False).encode()
    )
    return record


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


def _figure(score: Score) -> dict[str, Any]:
    figure: dict[str, Any] = plain(score)
    del figure["name"], figure["digits"]
    return figure
