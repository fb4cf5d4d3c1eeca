"""What a benchmark found: one table for people, one JSON file for programs."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.support.neighbours import Neighbours

FOLDER = Path("build/bench")
WIDTH = 120
LIBRARIES = ("av", "numpy", "pyarrow", "ray", "torch")
# Counts from the start of a benchmark, which imports this module.
neighbours = Neighbours()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measured thing: median, lowest and highest of its rounds, and how it compares."""

    what: str
    values: Sequence[float]
    unit: str
    ratio: float | None = None
    to: str = ""
    peak_mib: float | None = None
    aim: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def publish(name: str, title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print the table and write `build/bench/NAME.json`, both with what other processes used meanwhile."""
    notes = [*notes, neighbours.note()]
    columns = {heading: [show(row) for row in rows] for heading, show in COLUMNS.items()}
    shown = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table(title=title, title_justify="left")
    for heading in shown:
        words = heading in ("what", "aim")
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*cells)
    Console(width=WIDTH).print(table, *notes, sep="\n", highlight=False)
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
        "foreign_cores": neighbours.cores(),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _median(row: Row) -> str:
    return _shown(row.median, row.unit)


def _spread(row: Row) -> str:
    if len(row.values) < 2:
        return ""
    return f"{_shown(min(row.values), '').strip()} - {_shown(max(row.values), '').strip()}"


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2f} x {row.to}"


def _peak(row: Row) -> str:
    return "" if row.peak_mib is None else f"{row.peak_mib:,.0f} MiB"


def _shown(value: float, unit: str) -> str:
    digits = ",.0f" if value >= 100 else ".2f" if value >= 1 else ".3f"
    return f"{value:{digits}} {unit}"


COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "what": lambda row: row.what,
    "median": _median,
    "lowest - highest": _spread,
    "ratio": _ratio,
    "peak memory": _peak,
    "aim": lambda row: row.aim,
}
