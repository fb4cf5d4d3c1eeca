"""Progress bars on the terminal: count, speed and time left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, RenderableType
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
    """Items per second, over the last half minute."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.unit}/s", style="progress.data.speed")


class NotedProgress(Progress):
    """A bar, and below it the field `note` of its task: a terminal of 80 columns holds no more in one line.

    An error that ends its block removes the bar, so that the message follows the lines above it.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
            return
        self.live.transient = True
        self.live.stop()

    def stop(self) -> None:
        """End the bar; one that never started leaves no line."""
        if self.live.is_started:
            super().stop()

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.visible and task.fields["note"]:
                yield Text(f"  {task.fields['note']}", style="dim")


def bar(unit: str, *, quiet: bool = False) -> NotedProgress:
    """A bar for one stage on stderr; `quiet` shows nothing. A field `note` stands below it."""
    return NotedProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=quiet,
    )


@contextmanager
def counting(description: str, unit: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for one stage; yields a callback that takes `(done, total)`."""
    with bar(unit, quiet=quiet) as progress:
        task = progress.add_task(description, total=None, note="")
        yield lambda done, total: progress.update(task, completed=done, total=total)
