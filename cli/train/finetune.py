"""`cavsync train finetune` and `cavsync train probe`: a trained model to one that names classes."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cavsync.cli.train.options import (
    EXIT_INTERRUPTED,
    DataOption,
    DeviceOption,
    JsonOption,
    ResumeOption,
    RootOption,
    SetOption,
    WorkersOption,
    input_options,
    require_dataset,
)
from cavsync.cli.train.output import Bar, JsonLines

if TYPE_CHECKING:
    from cavsync.train.evaluation.classification.metrics import Classification
    from cavsync.train.finetune.config import FinetuneConfig
    from cavsync.train.finetune.metrics import FinetuneFacts, FinetuneMetrics

FromOption = Annotated[
    str | None,
    typer.Option("--from", help="Run folder or checkpoint whose encoders to start from: ours or published."),
]
RunOption = Annotated[
    Path | None, typer.Option(help="Run folder to make or resume.", show_default="ROOT/runs/PRESET")
]
EpochsOption = Annotated[
    int | None, typer.Option(min=1, help="Length in passes over the clips.", show_default="the preset's")
]
ModalityOption = Annotated[
    Literal["both", "audio", "image"] | None,
    typer.Option(help="What is heard and seen.", show_default="the preset's"),
]


def finetune(
    preset: Annotated[
        str, typer.Option(help="Recipe to start from; `cavsync config show` lists them.")
    ] = "finetune-vggsound",
    source: FromOption = None,
    data: DataOption = None,
    root: RootOption = Path(),
    run: RunOption = None,
    epochs: EpochsOption = None,
    modality: ModalityOption = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    num_workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train all weights of a pretrained model to name the classes of a dataset."""
    assignments = [
        *_given("initial_weights", source),
        *_length(epochs),
        *_given("head.modality", modality),
        *(overrides or []),
    ]
    config = run_config(preset, assignments, data=data, root=root, num_workers=num_workers)
    carry_out(config, run or root / "runs" / config.preset, resume, device, as_json)


def probe(
    preset: Annotated[
        str, typer.Option(help="Recipe to start from; `cavsync config show` lists them.")
    ] = "probe-vggsound",
    head: Annotated[
        Literal["attention", "linear"] | None,
        typer.Option(
            help="attention: two blocks over a clip's frames, which the paper calls a linear probe; "
            "linear: one linear layer.",
            show_default="attention",
        ),
    ] = None,
    source: FromOption = None,
    data: DataOption = None,
    root: RootOption = Path(),
    run: RunOption = None,
    epochs: EpochsOption = None,
    modality: ModalityOption = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    num_workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a head on a frozen model to name the classes of a dataset: what do its embeddings know?"""
    assignments = [*_given("initial_weights", source), *_length(epochs), *_given("head.modality", modality)]
    assignments += [*_given("head.kind", head), *(overrides or [])]
    config = run_config(preset, assignments, data=data, root=root, num_workers=num_workers)
    if not config.frozen:
        raise typer.BadParameter(
            f"{config.preset} trains all weights: start it with `cavsync train finetune`."
        )
    folder = run or root / "runs" / (config.preset if head is None else f"{config.preset}-{head}")
    carry_out(config, folder, resume, device, as_json)


def run_config(
    preset: str, overrides: list[str], *, data: str | None, root: Path, num_workers: int | None
) -> "FinetuneConfig":
    """The run that the options describe; an unknown preset or field is wrong usage."""
    from cavsync.train.engine.config import ConfigError
    from cavsync.train.engine.overrides import apply_overrides
    from cavsync.train.finetune.presets import finetune_preset

    try:
        config = finetune_preset(preset)
        options = input_options(data, root, config.data.path, num_workers)
        return apply_overrides(config, [*options, *overrides])
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def carry_out(
    config: "FinetuneConfig",
    folder: Path,
    resume: bool,
    device: Literal["auto", "cpu", "cuda"],
    as_json: bool,
) -> None:
    """The run, shown; it ends in 130 where it was interrupted."""
    if config.initial_weights is None:
        raise typer.BadParameter("say whose encoders to start from: --from RUN or --from FILE.")
    require_dataset(config.data.path, "vggsound")
    from cavsync.train.engine.config import as_dict
    from cavsync.train.engine.run_folder import with_nulls
    from cavsync.train.finetune.metrics import Listeners, headline
    from cavsync.train.finetune.trainer import finetune as run_finetuning

    show = JsonLines() if as_json else Bar(described, one_line)

    def started(facts: "FinetuneFacts", resolved: "FinetuneConfig") -> None:
        show.start(facts)
        show.config(as_dict(resolved))

    def scored(epoch: int, scores: "Classification") -> None:
        if isinstance(show, Bar):
            show.say(f"epoch {epoch}: {in_words(scores)}")
        else:
            show.record("scored", {"epoch": epoch, **with_nulls(headline(scores))})

    with show:
        listeners = Listeners(started, show.encoded, show.step, scored)
        result = run_finetuning(config, folder, resume=resume, device=device, listeners=listeners)
    show.end(dataclasses.replace(result, scores=None) if as_json else result)
    if not result.complete:
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.scores is not None and not as_json:
        typer.echo(f"Scores of all classes: {result.run_dir / 'scores.json'}")


def described(facts: "FinetuneFacts") -> dict[str, str]:
    """What the run is, name -> text."""
    done = f", {facts.steps_done:,} done" if facts.steps_done else ""
    missing = facts.classes_without_clips
    without = f"; no clip to learn from: {', '.join(missing[:5])}" if missing else ""
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return {
        "run": f"{facts.run_dir} (preset {facts.preset})",
        "from": str(facts.initial_weights),
        "dataset": f"{facts.dataset}: {facts.num_clips:,} clips",
        "classes": f"{facts.num_classes:,}, {facts.task}{without}{more}",
        "head": f"{facts.head} on {facts.modality}",
        "parameters": f"{facts.num_parameters:,} trained, {facts.num_frozen:,} not",
        "steps": f"{facts.num_steps:,} of {facts.batch_size:,} clips{done}",
        "device": f"{facts.device}, {facts.precision}",
    }


def one_line(metrics: "FinetuneMetrics") -> str:
    return f"loss {metrics.loss:.3f}  {metrics.clips_per_s:.0f} clips/s, {metrics.data_wait_fraction:.0%} waiting for data"


def in_words(scores: "Classification") -> str:
    without = len(scores.without_positives)
    left_out = f" ({without} classes without clips left out)" if without else ""
    return (
        f"mAP {scores.mean_average_precision:.2%}, AUC {scores.auc:.4f}, d' {scores.d_prime:.3f}, "
        f"top-1 {scores.top1:.2%} of clips, {scores.top1_macro:.2%} of classes, {scores.num_clips:,} clips{left_out}"
    )


def _length(epochs: int | None) -> list[str]:
    """Another length than the preset's has no range to average over."""
    return [] if epochs is None else [f"num_epochs={epochs}", "average_epochs=none"]


def _given(field: str, value: Any) -> list[str]:
    return [] if value is None else [f"{field}={value}"]
