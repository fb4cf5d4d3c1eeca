"""`cavsync train`: a model from prepared shards."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.interrupts import EXIT_INTERRUPTED
from cavsync.cli.console.options import with_options
from cavsync.cli.console.paths import PathOrUrl, path_option
from cavsync.cli.train import finetune
from cavsync.cli.train.options import TrainOptions, preset_option, require_dataset, require_writable_run
from cavsync.cli.train.output import Bar, JsonLines

if TYPE_CHECKING:
    from cavsync.train.pretrain.config import PretrainConfig
    from cavsync.train.pretrain.estimate import TrainingEstimate

DEFAULT_PRESET = "sync-base"

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Train a model on prepared shards."""


@app.command()
@with_options
def pretrain(
    preset: Annotated[str | None, preset_option(DEFAULT_PRESET)] = None,
    run: Annotated[
        PathOrUrl | None,
        path_option(
            help="Run folder to make, or to continue with --resume; or its URL, such as s3://BUCKET/NAME.",
            show_default="ROOT/runs/pretrain-PRESET",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length of the run in steps.", show_default="the preset's")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs of the run; each takes every clip once.", show_default="the preset's"
        ),
    ] = None,
    estimate: Annotated[
        bool, typer.Option(help="First measure a few steps, to estimate how long the run will take.")
    ] = True,
    *,
    options: TrainOptions,
) -> None:
    """Train a model on matching frames and audio segments, by reconstruction and contrast."""
    if steps is not None and epochs is not None:
        raise typer.BadParameter("--steps and --epochs exclude each other: each sets the length of the run.")
    from cavsync.train.pretrain.config import PretrainConfig
    from cavsync.train.pretrain.presets import preset as preset_named

    length = [] if steps is None else [f"num_steps={steps}", "num_epochs=none"]
    length += [] if epochs is None else [f"num_epochs={epochs}", "num_steps=none"]
    folder = run or options.root / "runs" / f"pretrain-{preset or DEFAULT_PRESET}"
    if options.resume:
        config = options.resumed(PretrainConfig, folder, preset, lambda _: length)
    else:
        config = options.resolve(preset_named, preset or DEFAULT_PRESET, length)
        for path in config.data.paths:
            require_dataset(path)
    from cavsync.train.pretrain.initial import fetch_weights
    from cavsync.train.pretrain.trainer import pretrain as run_pretraining
    from cavsync.train.pretrain.trainer import require_full_batch

    # Of several processes under torchrun one writes, fetches and prints.
    first = os.environ.get("RANK", "0") == "0"
    if first:
        require_writable_run(folder)
    if first and not options.resume:
        require_full_batch(config)
        fetch_weights(config, lambda text: typer.echo(text, err=True))
    new = not options.resume and not folder.exists() and "RANK" not in os.environ
    forecast = _estimate(config, options.device) if estimate and new else None
    show = JsonLines(estimate=forecast) if options.as_json else Bar(estimate=forecast)
    with show:
        result = run_pretraining(
            config, folder, resume=options.resume, device=options.device, callbacks=[show]
        )
    if first:
        show.end(result)
    if not result.complete:
        raise typer.Exit(EXIT_INTERRUPTED)


app.command(name="finetune")(finetune.finetune)
app.command(name="probe")(finetune.probe)


def _estimate(config: "PretrainConfig", device: str) -> "TrainingEstimate":
    from cavsync.train.engine.device import choose_device
    from cavsync.train.pretrain.estimate import estimate

    return estimate(config, choose_device(device))
