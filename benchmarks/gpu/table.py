"""The table of all findings, as text."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.gpu import record

WIDTH = 150


def publish(out: Path, names: Sequence[str], note: str = "") -> None:
    """Print the findings in `out`, and write them to `out/table.txt`."""
    machine = json.loads((out / "machine.json").read_text())
    ends = _ends(out)
    shown = Table(title=" ".join(f"{name} {value}" for name, value in machine.items()), title_justify="left")
    shown.add_column("section")
    shown.add_column("what")
    shown.add_column("value", justify="right")
    shown.add_column("note")
    for name in names:
        for finding in record.read(out / f"{name}.json"):
            shown.add_row(name, finding.what, _value(finding), finding.error or finding.note)
        end = ends.get(name)
        text = "did not run" if end is None else f"{end['ended'] or 'complete'}, {end['seconds']} s"
        shown.add_row(name, "(section)", "", text, end_section=True)
    with (out / "table.txt").open("w") as file:
        for console in (Console(width=WIDTH), Console(width=WIDTH, file=file)):
            console.print(shown, note, markup=False, highlight=False)


def _ends(out: Path) -> dict[str, dict[str, object]]:
    path = out / "sections.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {one["section"]: one for one in map(json.loads, lines)}


def _value(finding: record.Finding) -> str:
    if finding.error:
        return "FAILED"
    if finding.value is None:
        return ""
    digits = ",.0f" if abs(finding.value) >= 100 else ".2f" if abs(finding.value) >= 1 else ".4f"
    return f"{finding.value:{digits}} {finding.unit}"
