"""`cavsync train`: a model from prepared shards."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.cli.console.interrupts import EXIT_INTERRUPTED
from cavsync.cli.console.options import with_options
from cavsync.cli.train import finetune
from cavsync.cli.train.options import PresetOption, TrainOptions, require_dataset
from cavsync.cli.train.output import Bar, JsonLines

if TYPE_CHECKING:
    from cavsync.model.cavmae_sync import CavMaeSync
    from cavsync.train.pretrain.config import PretrainConfig
    from cavsync.train.pretrain.estimate import TrainingEstimate
    from cavsync.train.pretrain.metrics import PretrainResult, RunFacts, StepMetrics

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Train a model on prepared shards."""


@app.command()
@with_options
def pretrain(
    preset: PresetOption = "sync-base",
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run folder to make, or to continue with --resume.", show_default="ROOT/runs/pretrain-PRESET"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length of the run in steps.", show_default="the preset's")
    ] = None,
    estimate: Annotated[
        bool, typer.Option(help="First measure a few steps, to estimate how long the run will take.")
    ] = True,
    *,
    options: TrainOptions,
) -> None:
    """Train a model on matching frames and audio segments, by reconstruction and contrast."""
    from cavsync.train.pretrain.presets import preset as preset_named

    length = [] if steps is None else [f"num_steps={steps}", "num_epochs=none"]
    config = options.resolve(preset_named, preset, length)
    require_dataset(config.data.path, "audioset")
    from cavsync.train.pretrain.monitor import Monitor
    from cavsync.train.pretrain.trainer import pretrain as run_pretraining

    folder = run or options.root / "runs" / f"pretrain-{config.preset}"
    new = not options.resume and not folder.exists() and "RANK" not in os.environ
    forecast = _estimate(config, options.device) if estimate and new else None
    show = JsonLines(estimate=forecast) if options.as_json else Bar(estimate=forecast)
    with show:
        result = run_pretraining(
            config,
            folder,
            resume=options.resume,
            device=options.device,
            on_start=show.start,
            on_step=show.step,
            observers=[ShownConfig(show), Monitor()],
        )
    # Of several processes under torchrun one speaks.
    if os.environ.get("RANK", "0") == "0":
        show.end(result)
    if not result.complete:
        raise typer.Exit(EXIT_INTERRUPTED)


app.command(name="finetune")(finetune.finetune)
app.command(name="probe")(finetune.probe)


class ShownConfig:
    """A `TrainerCallback` that shows the resolved configuration before the first step."""

    def __init__(self, show: Bar | JsonLines) -> None:
        self._show = show

    def started(self, facts: "RunFacts", config: "PretrainConfig", model: "CavMaeSync") -> None:
        from cavsync.train.engine.config import as_dict

        self._show.config(as_dict(config))

    def stepped(self, metrics: "StepMetrics", model: "CavMaeSync", batch: Mapping[str, Any]) -> None:
        """Nothing: the bar is told by `on_step`."""

    def ended(self, result: "PretrainResult", model: "CavMaeSync") -> None:
        """Nothing: the last line comes when the bar has gone."""


def _estimate(config: "PretrainConfig", device: str) -> "TrainingEstimate":
    from cavsync.train.engine.device import choose_device
    from cavsync.train.pretrain.estimate import estimate

    return estimate(config, choose_device(device))
