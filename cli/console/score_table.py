"""Tables of scores on the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cavsync.train.reporting.page import Score


def print_scores(title: str, scores: "Sequence[Score]") -> None:
    """One row a score, with its interval and the chance level beside it."""
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    for column in ("score", "95 % interval", "chance"):
        table.add_column(column, justify="right")
    table.add_column("")
    for score in scores:
        table.add_row(score.name, score.shown, score.shown_interval, score.shown_chance, score.note)
    Console().print(table)
