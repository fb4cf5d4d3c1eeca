"""`cavsync train finetune` and `cavsync train probe`: classifiers on the encoders of a pretrained model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cavsync.cli.console.interrupts import EXIT_INTERRUPTED
from cavsync.cli.console.options import with_options
from cavsync.cli.train.options import (
    ClassifierOptions,
    TrainOptions,
    assign,
    preset_option,
    require_dataset,
    require_writable_run,
)
from cavsync.cli.train.output import Bar, JsonLines
from cavsync.cli.train.run_texts import RunTexts, clip_count, device_text, share_rows

if TYPE_CHECKING:
    from cavsync.pipeline.storage.path import AnyPath
    from cavsync.train.engine.metrics import Losses, StepMetrics
    from cavsync.train.finetune.config import FinetuneConfig
    from cavsync.train.finetune.metrics import FinetuneFacts


FINETUNE_PRESET, PROBE_PRESET = "finetune-vggsound", "probe-vggsound"


@with_options
def finetune(
    preset: Annotated[str | None, preset_option(FINETUNE_PRESET)] = None,
    *,
    classifier: ClassifierOptions,
    options: TrainOptions,
) -> None:
    """Train all weights of a pretrained model to classify the clips of a dataset."""
    folder = classifier.run or options.root / "runs" / (preset or FINETUNE_PRESET)
    _train(_config(options, classifier, folder, preset, FINETUNE_PRESET), folder, options)


@with_options
def probe(
    preset: Annotated[str | None, preset_option(PROBE_PRESET)] = None,
    head: Annotated[
        Literal["attention", "linear"] | None,
        typer.Option(
            help="attention: two blocks over a clip's frames, which the paper calls a linear probe; "
            "linear: one linear layer.",
            show_default="attention",
        ),
    ] = None,
    *,
    classifier: ClassifierOptions,
    options: TrainOptions,
) -> None:
    """Train a classification head on the embeddings of a frozen model."""
    named = preset or PROBE_PRESET
    folder = classifier.run or options.root / "runs" / (named if head is None else f"{named}-{head}")
    config = _config(options, classifier, folder, preset, PROBE_PRESET, assign("head.kind", head))
    if not config.frozen:
        raise typer.BadParameter(
            f"The preset {config.preset} trains all weights; start it with `cavsync train finetune`."
        )
    _train(config, folder, options)


def _config(
    options: TrainOptions,
    classifier: ClassifierOptions,
    folder: "AnyPath",
    preset: str | None,
    default_preset: str,
    of_command: Sequence[str] = (),
) -> "FinetuneConfig":
    """That of the run in `folder` with --resume, else of the preset, with the fields that the options stand for."""
    from cavsync.train.finetune.config import FinetuneConfig
    from cavsync.train.finetune.presets import finetune_preset

    if options.resume:
        return options.resumed(
            FinetuneConfig, folder, preset, lambda config: [*classifier.assignments(config), *of_command]
        )
    return options.resolve(
        finetune_preset, preset or default_preset, [*classifier.assignments(), *of_command]
    )


def _train(config: "FinetuneConfig", folder: "AnyPath", options: TrainOptions) -> None:
    """Train and show the run; an interrupted run ends with exit code 130."""
    if config.initial_weights is None:
        raise typer.BadParameter("Name the weights that the encoders start from: --from RUN or --from FILE.")
    for path in config.data.paths:
        require_dataset(path)
    from cavsync.train.finetune.trainer import finetune as run_finetuning

    require_writable_run(folder)

    show = JsonLines() if options.as_json else Bar(RunTexts(describe, step_line, validation_line))

    with show:
        result = run_finetuning(
            config, folder, resume=options.resume, device=options.device, callbacks=[show]
        )
    show.end(dataclasses.replace(result, scores=None) if options.as_json else result)
    if not result.complete:
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.scores is not None and not options.as_json:
        typer.echo(f"Scores of all classes: {result.shown(result.run_dir / 'scores.json')}")


def describe(facts: "FinetuneFacts") -> dict[str, str]:
    """The run before its first step, name -> text."""
    done = f", {facts.steps_done:,} done" if facts.steps_done else ""
    missing = facts.classes_without_clips
    without = f"; no clip to learn from: {', '.join(missing[:5])}" if missing else ""
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return {
        "run": f"{facts.run_name} (preset {facts.preset})",
        "initial weights": facts.initial_weights,
        "dataset": f"{facts.dataset}: {clip_count(facts)}",
        **share_rows(facts),
        "classes": f"{facts.num_classes:,}, {facts.task}{without}{more}",
        "head": f"{facts.head} on {facts.modality}",
        "parameters": f"{facts.num_parameters:,} trained, {facts.num_frozen:,} not",
        "steps": f"{facts.num_steps:,} of {facts.batch_size:,} clips{done}",
        "device": device_text(facts),
    }


def step_line(metrics: "StepMetrics[Losses]") -> str:
    return f"loss {metrics.losses.loss:.3f}  {metrics.clips_per_s:.0f} clips/s, {metrics.data_wait_fraction:.0%} waiting for data"


def validation_line(figures: Mapping[str, float]) -> str:
    without = figures["num_classes_without_clips"]
    averaged = (
        f"; moving average of the weights: mAP {figures['ema_mean_average_precision']:.2%}, "
        f"top-1 {figures['ema_top1']:.2%}"
        if "ema_top1" in figures
        else ""
    )
    left_out = f" ({without} classes without clips left out)" if without else ""
    return (
        f"mAP {figures['mean_average_precision']:.2%}, AUC {figures['auc']:.4f}, d' {figures['d_prime']:.3f}, "
        f"top-1 {figures['top1']:.2%} of clips, {figures['top1_macro']:.2%} of classes, {figures['num_clips']:,} "
        f"clips{left_out}{averaged}"
    )
