"""How an evaluation ends on the terminal: a table and the page's place, or the record as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cavsync.cli.console.score_table import print_scores

if TYPE_CHECKING:
    from cavsync.train.reporting.page import Score


def print_report(
    title: str,
    scores: "Sequence[Score]",
    record: dict[str, Any],
    folder: Path,
    *,
    as_json: bool,
    notes: Sequence[str] = (),
) -> None:
    """`notes` are lines below the table."""
    if as_json:
        typer.echo(json.dumps(record))
        return
    print_scores(title, scores)
    for line in notes:
        typer.echo(line)
    typer.echo(f"Report: {folder / 'report.html'}")
