"""Progress bars on the terminal: how far, how fast, how long still."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Things a second, over the last half minute."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.unit}/s", style="progress.data.speed")


def bar(unit: str, *, quiet: bool = False) -> Progress:
    """A bar for one stage on stderr; `quiet` shows nothing. A field `note` stands at its end."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(file=sys.stderr),
        disable=quiet,
    )


@contextmanager
def counting(description: str, unit: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told `(done, total)`."""
    with bar(unit, quiet=quiet) as progress:
        task = progress.add_task(description, total=None, note="")
        yield lambda done, total: progress.update(task, completed=done, total=total)
