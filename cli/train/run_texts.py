"""The texts of a training on the terminal: its facts, the lines of its steps and validations, its forecast."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

if TYPE_CHECKING:
    from cavsync.train.engine.metrics import RunFacts, StepMetrics
    from cavsync.train.pretrain.estimate import TrainingEstimate
    from cavsync.train.pretrain.metrics import PretrainFacts, PretrainLosses


@dataclass(frozen=True)
class RunTexts:
    """The texts of one kind of training."""

    describe: Callable[[Any], Mapping[str, str]]  # of its facts: name -> text
    step: Callable[[Any], str]  # of the metrics of a step
    validation: Callable[[Mapping[str, float]], str]  # of the figures of a validation


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
