"""Shows a training: the run before it starts, each step, each validation, and the result."""

import dataclasses
import json
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.markup import escape
from rich.table import Table

from cavsync.cli.console.progress import bar
from cavsync.cli.train.run_texts import PRETRAIN_TEXTS, RunTexts, forecast

if TYPE_CHECKING:
    from cavsync.train.engine.metrics import StepMetrics, ValidationMetrics
    from cavsync.train.pretrain.estimate import TrainingEstimate


class Bar:
    """A callback with a table before the first step, a progress bar during the run, and a line at its end."""

    def __init__(
        self,
        texts: RunTexts | None = None,
        estimate: "TrainingEstimate | None" = None,
        *,
        shows_config: bool = True,
    ) -> None:
        self._texts, self._estimate, self._shows_config = texts or PRETRAIN_TEXTS, estimate, shows_config
        self._progress = bar("steps")
        self._task = self._progress.add_task("training", visible=False, note="")
        self._last: StepMetrics[Any] | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, at)

    def on_train_begin(self, facts: Any, config: Any, model: Any) -> None:
        rows = dict(self._texts.describe(facts))
        if self._estimate is not None:
            rows["time"] = forecast(self._estimate)
        if facts.changes:
            rows["resumed with"] = escape("\n".join(facts.changes))
        self._table(rows)
        if self._shows_config:
            self._table(_config_rows(dataclasses.asdict(config)))
        self._progress.update(self._task, total=facts.num_steps, completed=facts.steps_done, visible=True)

    def on_clip_encoded(self, num_done: int, num_clips: int) -> None:
        self._progress.update(self._task, note=f"encoding clips: {num_done:,} of {num_clips:,}")

    def on_step_end(self, metrics: "StepMetrics[Any]", model: Any, batch: Any) -> None:
        """The losses of a step that a GPU still computes are shown with the next one."""
        last, self._last = self._last, metrics
        shown = metrics if metrics.pending.is_ready else last
        note = "" if shown is None else self._texts.step(shown)
        self._progress.update(self._task, completed=metrics.step, note=note)

    def on_log(self, metrics: "StepMetrics[Any]") -> None:
        self._progress.update(self._task, note=self._texts.step(metrics))

    def on_validation(self, metrics: "ValidationMetrics") -> None:
        """A line above the bar."""
        text = self._texts.validation(metrics.figures)
        self._progress.console.print(f"epoch {metrics.epoch:.4g}: {text}")

    def on_train_end(self, result: Any, model: Any) -> None:
        """Nothing: `end` prints the last line when the bar is gone."""

    def end(self, result: Any) -> None:
        if result.complete:
            typer.echo(f"Done: {result.step} steps. Weights: {result.shown(result.weights)}")
        else:
            typer.echo(
                f"Stopped at step {result.step} of {result.num_steps} and saved {result.shown(result.checkpoint)}. "
                f"It goes on with --resume --run {result.url or result.run_dir}."
            )

    def _table(self, rows: Mapping[str, str]) -> None:
        table = Table(show_header=False, box=None)
        for name, value in rows.items():
            table.add_row(f"[bold]{name}", value)
        self._progress.console.print(table)


class JsonLines:
    """A callback that prints the same events as JSON lines, each with an "event"."""

    def __init__(self, estimate: "TrainingEstimate | None" = None) -> None:
        self._estimate = estimate
        self._unprinted: StepMetrics[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on_train_begin(self, facts: Any, config: Any, model: Any) -> None:
        """The configuration is not printed: it is in the run's config.json."""
        estimated = None if self._estimate is None else dataclasses.asdict(self._estimate)
        self._print("start", dataclasses.asdict(facts), estimate=estimated)

    def on_clip_encoded(self, num_done: int, num_clips: int) -> None:
        """Prints nothing."""

    def on_step_end(self, metrics: "StepMetrics[Any]", model: Any, batch: Any) -> None:
        """A step that a GPU still computes is printed after the next one, or before the next other line."""
        self._print_steps()
        self._unprinted = metrics
        if metrics.pending.is_ready:
            self._print_steps()

    def on_log(self, metrics: "StepMetrics[Any]") -> None:
        self._print_steps()

    def on_validation(self, metrics: "ValidationMetrics") -> None:
        from cavsync.train.engine.run_folder import with_nulls

        self._print_steps()
        self._print("validation", with_nulls(metrics.as_record()))

    def on_train_end(self, result: Any, model: Any) -> None:
        """`end` prints the last line."""
        self._print_steps()

    def end(self, result: Any) -> None:
        last = None if result.last is None else result.last.as_record()
        self._print("end", dataclasses.asdict(result) | {"last": last}, complete=result.complete)

    def _print_steps(self) -> None:
        step, self._unprinted = self._unprinted, None
        if step is not None:
            self._print("step", step.as_record())

    def _print(self, event: str, record: Mapping[str, Any], **more: Any) -> None:
        typer.echo(json.dumps({"event": event, **record, **more}, default=str))


def _config_rows(content: Mapping[str, Any]) -> dict[str, str]:
    """The resolved configuration, a row for each group of fields."""
    groups = {name: value for name, value in content.items() if isinstance(value, dict)}
    single = {name: value for name, value in content.items() if name not in groups}
    return {
        group: ", ".join(f"{name}={json.dumps(value)}" for name, value in fields.items())
        for group, fields in {"config": single, **groups}.items()
    }
