"""Tables of scores on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cavsync.train.reporting.page import Score


def print_scores(title: str, scores: "Sequence[Score]") -> None:
    """One row a score, with its interval and the chance level beside it."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for column in ("score", "95 % interval", "chance"):
        table.add_column(column, justify="right")
    table.add_column("")
    for score in scores:
        table.add_row(score.name, score.shown, score.shown_interval, score.shown_chance, score.note)
    Console().print(table)


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
