"""Progress of a stage, with count, speed and time left: a bar on a terminal, dated lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# A log has a line after so many seconds and so much of the whole, whichever is later, and is never silent for long.
LINE_EVERY_S, LINE_EVERY, MAX_SILENCE_S = 30.0, 0.05, 600.0


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


class LoggedProgress(NotedProgress):
    """Lines instead of a bar, for an output that is no terminal, such as the log of a job.

    A line is printed after `LINE_EVERY_S` and `LINE_EVERY` of the whole, whichever is later, at the latest after
    `MAX_SILENCE_S`; the last one at the end of a stage that had no error. A task that is not visible, or whose total
    is 0, has no lines.
    """

    def __init__(self, unit: str, *, console: Console, disable: bool) -> None:
        super().__init__(console=console, disable=disable, auto_refresh=False)
        self._unit = unit
        self._printed: dict[TaskID, tuple[float, float]] = {}  # the time and count of the last line

    def start(self) -> None:
        """Nothing to draw."""

    def stop(self) -> None:
        for task in self.tasks:
            _, count = self._printed.get(task.id, (0.0, None))
            if task.id in self._printed and task.completed != count:
                self._print(task)

    def add_task(self, description: str, *arguments: Any, **options: Any) -> TaskID:
        number = super().add_task(description, *arguments, **options)
        self._begin(self._tasks[number])
        return number

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._print_if_due(self._tasks[task_id])

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._print_if_due(self._tasks[task_id])

    def _begin(self, task: Task) -> None:
        """Counts the time to the first line from here; the work of earlier runs is not this one's progress."""
        if task.visible and not self.disable:
            self._printed[task.id] = time.monotonic(), task.completed

    def _print_if_due(self, task: Task) -> None:
        if task.id not in self._printed:
            self._begin(task)
            return
        at_s, count = self._printed[task.id]
        silent_s, done = time.monotonic() - at_s, task.completed - count
        is_much = task.total is None or done >= LINE_EVERY * task.total
        if silent_s >= MAX_SILENCE_S or (silent_s >= LINE_EVERY_S and is_much):
            self._print(task)

    def _print(self, task: Task) -> None:
        self._printed[task.id] = time.monotonic(), task.completed
        self.console.print(self._line(task), markup=False, highlight=False, soft_wrap=True)

    def _line(self, task: Task) -> str:
        total = "" if task.total is None else f" of {task.total:,.0f}"
        parts = [f"{task.description}: {task.completed:,.0f}{total} {self._unit}"]
        if task.total:
            parts[0] += f" ({task.percentage:.0f} %)"
        speed = task.finished_speed or task.speed
        if speed is not None:
            parts.append(f"{speed:.1f} {self._unit}/s")
        if task.time_remaining and not task.finished:
            parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
        note = f"; {task.fields['note']}" if task.fields["note"] else ""
        return f"{datetime.now():%Y-%m-%d %H:%M:%S} {', '.join(parts)}{note}"


def bar(unit: str, *, quiet: bool = False) -> NotedProgress:
    """A bar for one stage on stderr, or dated lines where that is no terminal; `quiet` shows nothing.

    A field `note` stands below the bar, or at the end of a line.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        return LoggedProgress(unit, console=console, disable=quiet)
    return NotedProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
    )


@contextmanager
def counting(description: str, unit: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """The progress of one stage; yields a callback that takes `(done, total)`."""
    with bar(unit, quiet=quiet) as progress:
        task = progress.add_task(description, total=None, note="")
        yield lambda done, total: progress.update(task, completed=done, total=total)
