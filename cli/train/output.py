"""Shows a training: the run before it starts, each step, and the result."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.table import Table

from cavsync.cli.console.progress import bar

if TYPE_CHECKING:
    from cavsync.train.pretrain.estimate import TrainingEstimate
    from cavsync.train.pretrain.metrics import RunFacts, StepMetrics


class Bar:
    """A table before the first step, a progress bar during the run, and a line at its end."""

    def __init__(
        self,
        describe: "Callable[[Any], Mapping[str, str]] | None" = None,
        line: Callable[[Any], str] | None = None,
        estimate: "TrainingEstimate | None" = None,
    ) -> None:
        self._describe, self._line, self._estimate = describe or described, line or one_line, estimate
        self._progress = bar("steps")
        self._task = self._progress.add_task("training", visible=False, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, facts: Any) -> None:
        rows = dict(self._describe(facts))
        if self._estimate is not None:
            rows["time"] = forecast(self._estimate)
        self._table(rows)
        self._progress.update(self._task, total=facts.num_steps, completed=facts.steps_done, visible=True)

    def config(self, content: Mapping[str, Any]) -> None:
        """The resolved configuration, a row for each group of fields."""
        groups = {name: value for name, value in content.items() if isinstance(value, dict)}
        single = {name: value for name, value in content.items() if name not in groups}
        self._table({name: _fields(fields) for name, fields in {"config": single, **groups}.items()})

    def step(self, metrics: Any) -> None:
        self._progress.update(self._task, completed=metrics.step, note=self._line(metrics))

    def encoded(self, done: int, total: int) -> None:
        self._progress.update(self._task, note=f"encoding clips: {done:,} of {total:,}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._progress.console.print(text)

    def end(self, result: Any) -> None:
        if result.complete:
            typer.echo(f"Done: {result.step} steps. Weights: {result.weights}")
        else:
            typer.echo(
                f"Stopped at step {result.step} of {result.num_steps} and saved {result.checkpoint}. "
                "The same command with --resume continues."
            )

    def _table(self, rows: Mapping[str, str]) -> None:
        table = Table(show_header=False, box=None)
        for name, value in rows.items():
            table.add_row(f"[bold]{name}", value)
        self._progress.console.print(table)


class JsonLines:
    """The same events as JSON lines, each with an "event"."""

    def __init__(self, estimate: "TrainingEstimate | None" = None) -> None:
        self._estimate = estimate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, facts: Any) -> None:
        estimated = None if self._estimate is None else dataclasses.asdict(self._estimate)
        self._print("start", dataclasses.asdict(facts), estimate=estimated)

    def config(self, content: Mapping[str, Any]) -> None:
        """Prints nothing; the run folder has it as config.json."""

    def step(self, metrics: Any) -> None:
        self._print("step", dataclasses.asdict(metrics))

    def encoded(self, done: int, total: int) -> None:
        """Prints nothing."""

    def record(self, event: str, content: Mapping[str, Any]) -> None:
        self._print(event, content)

    def end(self, result: Any) -> None:
        self._print("end", dataclasses.asdict(result), complete=result.complete)

    def _print(self, event: str, record: Mapping[str, Any], **more: Any) -> None:
        typer.echo(json.dumps({"event": event, **record, **more}, default=str))


def described(facts: "RunFacts") -> dict[str, str]:
    """A pretraining run, name -> text."""
    height, width = facts.stored_frame
    resized = (
        "" if height == width == facts.image_size else f", resized to {facts.image_size} x {facts.image_size}"
    )
    done = f", {facts.steps_done:,} done" if facts.steps_done else ""
    shared = f", over {facts.num_ranks} processes" if facts.num_ranks > 1 else ""
    return {
        "run": f"{facts.run_dir} (preset {facts.preset})",
        "dataset": f"{facts.dataset}: {facts.num_clips:,} clips, frames of {height} x {width} px{resized}",
        "start": facts.start,
        "parameters": f"{facts.num_parameters:,}",
        "steps": f"{facts.num_steps:,} of {facts.batch_size:,} clips{shared}{done}",
        "device": f"{facts.device}, {facts.precision}",
    }


def one_line(metrics: "StepMetrics") -> str:
    return (
        f"loss {metrics.loss:.3f} (audio {metrics.reconstruction_audio:.3f}, "
        f"image {metrics.reconstruction_image:.3f}, contrast {metrics.contrastive:.3f}, "
        f"accuracy {metrics.accuracy:.0%})  {metrics.clips_per_s:.0f} clips/s, "
        f"{metrics.data_wait_fraction:.0%} waiting for data"
    )


def forecast(estimate: "TrainingEstimate") -> str:
    return (
        f"about {duration(estimate.seconds)} ({estimate.clips_per_s:.1f} clips/s, measured on "
        f"{estimate.steps_measured} steps of {estimate.clips_a_step} clips; validation and saving come on top)"
    )


def duration(seconds: float) -> str:
    """ "3 d 4 h", "4 h 5 min", "5 min 6 s", "6 s"."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), []
    for name, size in units:
        count, left = divmod(left, size)
        parts.append((count, name))
    first = next((number for number, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2])


def _fields(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in fields.items())
