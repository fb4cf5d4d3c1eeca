"""Shows a training: the run before it starts, each step, each validation, and the result."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.markup import escape
from rich.table import Table

from cavsync.cli.console.progress import bar

if TYPE_CHECKING:
    from cavsync.train.engine.metrics import RunFacts, StepMetrics, ValidationMetrics
    from cavsync.train.pretrain.estimate import TrainingEstimate
    from cavsync.train.pretrain.metrics import PretrainFacts, PretrainLosses


@dataclass(frozen=True)
class RunTexts:
    """The texts of one kind of training."""

    describe: Callable[[Any], Mapping[str, str]]  # of its facts: name -> text
    step: Callable[[Any], str]  # of the metrics of a step
    validation: Callable[[Mapping[str, float]], str]  # of the figures of a validation


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


def describe(facts: "PretrainFacts") -> dict[str, str]:
    """A pretraining run before its first step, name -> text."""
    height, width = facts.stored_frame
    resized = (
        "" if height == width == facts.image_size else f", resized to {facts.image_size} x {facts.image_size}"
    )
    done = f", {facts.steps_done:,} done" if facts.steps_done else ""
    teacher = (
        f", and {facts.num_teacher_parameters:,} of the teacher, their moving average, in memory and in checkpoints"
        if facts.num_teacher_parameters
        else ""
    )
    shared = f", over {facts.num_ranks} processes" if facts.num_ranks > 1 else ""
    return {
        "run": f"{facts.run_name} (preset {facts.preset})",
        "dataset": f"{facts.dataset}: {clip_count(facts)}, frames of {height} x {width} px{resized}",
        **share_rows(facts),
        "initial weights": facts.initial_weights,
        "parameters": f"{facts.num_parameters:,}{teacher}",
        "steps": f"{facts.num_steps:,} of {facts.batch_size:,} clips{shared}{done}",
        "contrast": f"each clip among {facts.group_size:,} of its batch",
        "device": device_text(facts),
    }


def device_text(facts: "RunFacts") -> str:
    """What a run computes on, and how."""
    compiled = ", compiled: the first step takes long" if facts.compiled else ""
    return f"{facts.device}, {facts.precision}{compiled}"


def clip_count(facts: "RunFacts") -> str:
    """The clips of a run, and those that it leaves out."""
    left_out = (
        f" ({facts.num_left_out:,} left out by data.max_gap_s or data.keep)" if facts.num_left_out else ""
    )
    return f"{facts.num_clips:,} clips{left_out}"


def share_rows(facts: "RunFacts") -> dict[str, str]:
    """How much each of several datasets gives; nothing for one."""
    if not facts.shares:
        return {}
    lines = [
        f"{share.path}: {share.num_drawn:,} clips of an epoch ({share.num_drawn / facts.num_clips:.1%}), of its {share.num_clips:,}"
        for share in facts.shares
    ]
    if facts.num_repeated_keys:
        lines.append(
            f"{facts.num_repeated_keys:,} clips have the key of a clip of another dataset, and are clips of their own"
        )
    return {"shares": escape("\n".join(lines))}


def step_line(metrics: "StepMetrics[PretrainLosses]") -> str:
    losses = metrics.losses
    distillation = metrics.as_record().get("distillation")
    taught = "" if distillation is None else f"distillation {distillation:.3f}, "
    return (
        f"loss {losses.loss:.3f} (audio {losses.reconstruction_audio:.3f}, "
        f"image {losses.reconstruction_image:.3f}, contrast {losses.contrastive:.3f}, {taught}"
        f"accuracy {losses.accuracy:.0%})  {metrics.clips_per_s:.0f} clips/s, "
        f"{metrics.data_wait_fraction:.0%} waiting for data"
    )


def validation_line(figures: Mapping[str, float]) -> str:
    averaged = (
        f"; moving average of the weights: R@1 {figures['ema_r1_audio_to_video']:.1%} and "
        f"{figures['ema_r1_video_to_audio']:.1%}"
        if "ema_r1_audio_to_video" in figures
        else ""
    )
    return (
        f"held-out R@1 {figures['r1_audio_to_video']:.1%} audio to video, {figures['r1_video_to_audio']:.1%} video to "
        f"audio, effective rank {figures['effective_rank_audio']:.1f} (audio), "
        f"{figures['effective_rank_image']:.1f} (image), {figures['num_clips']:,} clips{averaged}"
    )


PRETRAIN_TEXTS = RunTexts(describe, step_line, validation_line)


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


def _config_rows(content: Mapping[str, Any]) -> dict[str, str]:
    """The resolved configuration, a row for each group of fields."""
    groups = {name: value for name, value in content.items() if isinstance(value, dict)}
    single = {name: value for name, value in content.items() if name not in groups}
    return {
        group: ", ".join(f"{name}={json.dumps(value)}" for name, value in fields.items())
        for group, fields in {"config": single, **groups}.items()
    }
