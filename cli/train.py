"""`cavsync train`: shards to a trained model."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import typer
from rich.table import Table

from cavsync.cli.progress import bar

if TYPE_CHECKING:
    from cavsync.train.config import TrainConfig
    from cavsync.train.loop import PretrainResult, RunFacts, StepMetrics

app = typer.Typer(no_args_is_help=True)

EXIT_INTERRUPTED = 130


@app.callback()
def group() -> None:
    """Shards to a trained model."""


@app.command()
def pretrain(
    preset: Annotated[
        str, typer.Option(help="Recipe to start from; `cavsync config show` lists them.")
    ] = "sync-base",
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset folder made by `cavsync prepare`.", show_default="the preset's"),
    ] = None,
    root: Annotated[
        Path, typer.Option(envvar="CAVSYNC_ROOT", help="Folder that holds data/ and runs/.")
    ] = Path(),
    run: Annotated[
        Path | None,
        typer.Option(help="Run folder to make or resume.", show_default="ROOT/runs/pretrain-PRESET"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length of the run in steps.", show_default="the preset's")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field, e.g. optimizer.lr=1e-4."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    num_workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode.", show_default="the preset's")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line a step instead of a bar.")
    ] = False,
) -> None:
    """Train a model on matched frames and sounds, by reconstruction and contrast."""
    config = run_config(preset, overrides or [], data=data, root=root, steps=steps, num_workers=num_workers)
    _require_dataset(Path(config.data.path))
    from cavsync.train.loop import pretrain as run_pretraining

    folder = run or root / "runs" / f"pretrain-{config.preset}"
    show = JsonLines() if as_json else Bar()
    with show:
        result = run_pretraining(
            config, folder, resume=resume, device=device, on_start=show.start, on_step=show.step
        )
    show.end(result)
    if not result.complete:
        raise typer.Exit(EXIT_INTERRUPTED)


def run_config(
    preset: str,
    overrides: list[str],
    *,
    data: Path | None,
    root: Path,
    steps: int | None,
    num_workers: int | None,
) -> "TrainConfig":
    """The run that the options describe; an unknown preset or field is wrong usage."""
    from cavsync.train.config import ConfigError
    from cavsync.train.overrides import apply_overrides
    from cavsync.train.presets import preset as preset_named

    try:
        config = preset_named(preset)
        path = data if data is not None else root / config.data.path
        options = [f"data.path={path}"]
        if steps is not None:
            options += [f"num_steps={steps}", "num_epochs=none"]
        if num_workers is not None:
            options.append(f"data.num_workers={num_workers}")
        return apply_overrides(config, [*options, *overrides])
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def _require_dataset(path: Path) -> None:
    """Says how to make what is missing before anything heavy is imported."""
    from cavsync.pipeline.errors import CavsyncError

    if not (path / "dataset.json").is_file():
        raise CavsyncError(
            f"No dataset to train on: {path / 'dataset.json'} does not exist (looked for in {path.absolute()}). "
            "Make it with `cavsync prepare audioset`, or give the folder of another one with --data."
        )


class Bar:
    """A table before the first step, a progress bar during the run, and a line at its end."""

    def __init__(self) -> None:
        self._progress = bar("steps")
        self._task = self._progress.add_task("pretraining", visible=False, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, facts: "RunFacts") -> None:
        table = Table(show_header=False, box=None)
        for name, value in described(facts).items():
            table.add_row(f"[bold]{name}", value)
        self._progress.console.print(table)
        self._progress.update(self._task, total=facts.num_steps, completed=facts.steps_done, visible=True)

    def step(self, metrics: "StepMetrics") -> None:
        self._progress.update(self._task, completed=metrics.step, note=one_line(metrics))

    def end(self, result: "PretrainResult") -> None:
        if result.complete:
            typer.echo(f"Done: {result.step} steps. Weights: {result.weights}")
        else:
            typer.echo(
                f"Stopped at step {result.step} of {result.num_steps} and saved {result.checkpoint}. "
                "The same command with --resume continues."
            )


class JsonLines:
    """The same three moments as lines of JSON, each with an "event"."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, facts: "RunFacts") -> None:
        self._print("start", facts)

    def step(self, metrics: "StepMetrics") -> None:
        self._print("step", metrics)

    def end(self, result: "PretrainResult") -> None:
        self._print("end", result, complete=result.complete)

    def _print(self, event: str, record: Any, **more: Any) -> None:
        typer.echo(json.dumps({"event": event, **dataclasses.asdict(record), **more}, default=str))


def described(facts: "RunFacts") -> dict[str, str]:
    """What the run is, name -> text."""
    height, width = facts.stored_frame
    resized = (
        "" if height == width == facts.image_size else f", resized to {facts.image_size} x {facts.image_size}"
    )
    done = f", {facts.steps_done:,} done" if facts.steps_done else ""
    return {
        "run": f"{facts.run_dir} (preset {facts.preset})",
        "dataset": f"{facts.dataset}: {facts.num_clips:,} clips, frames of {height} x {width} px{resized}",
        "parameters": f"{facts.num_parameters:,}",
        "steps": f"{facts.num_steps:,} of {facts.batch_size:,} clips{done}",
        "device": f"{facts.device}, {facts.precision}",
    }


def one_line(metrics: "StepMetrics") -> str:
    return (
        f"loss {metrics.loss:.3f} (audio {metrics.reconstruction_audio:.3f}, "
        f"image {metrics.reconstruction_image:.3f}, contrast {metrics.contrastive:.3f}, "
        f"accuracy {metrics.accuracy:.0%})  {metrics.clips_per_s:.0f} clips/s, "
        f"{metrics.data_wait_share:.0%} waiting for data"
    )
