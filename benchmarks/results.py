"""What a benchmark found: one table for people, one JSON file for programs."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path("build/bench")
WIDTH = 110
LIBRARIES = ("av", "numpy", "pyarrow", "ray", "torch")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measured thing: median, lowest and highest of its rounds, and how it compares."""

    what: str
    values: Sequence[float]
    unit: str
    ratio: float | None = None
    to: str = ""
    aim: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def publish(name: str, title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print the table and write `build/bench/NAME.json`."""
    table = Table("what", "median", "lowest - highest", "ratio", "aim", title=title, title_justify="left")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.what, _shown(row.median, row.unit), _spread(row), _ratio(row), row.aim)
    console = Console(width=WIDTH)
    console.print(table, *notes, sep="\n", highlight=False)
    _write(name, rows, notes)


def _write(name: str, rows: Sequence[Row], notes: Sequence[str]) -> None:
    content = {
        "benchmark": name,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            **{library: version(library) for library in LIBRARIES},
        },
        "rows": [{**asdict(row), "median": row.median} for row in rows],
        "notes": list(notes),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _shown(value: float, unit: str) -> str:
    digits = ",.0f" if value >= 100 else ".2f" if value >= 1 else ".3f"
    return f"{value:{digits}} {unit}"


def _spread(row: Row) -> str:
    if len(row.values) < 2:
        return ""
    return f"{_shown(min(row.values), '').strip()} - {_shown(max(row.values), '').strip()}"


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2f} x {row.to}"
