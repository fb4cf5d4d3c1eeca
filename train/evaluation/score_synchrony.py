"""`cavsync eval synchrony` on a split: each clip's pictures with its own sound, sooner and later, and with another's."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from cavsync.model.checkpoint import load_model
from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset import Dataset
from cavsync.pipeline.schema import MEL_ROWS_PER_S
from cavsync.train.data import resolved
from cavsync.train.evaluation.coverage import Coverage, Unusable
from cavsync.train.evaluation.offsets import Delay, OffsetCurve, estimate_delay, offset_curve
from cavsync.train.evaluation.retrieval import EvaluationError
from cavsync.train.evaluation.sliding import Medium, Slid, Slider
from cavsync.train.evaluation.split_media import SplitMedia
from cavsync.train.evaluation.synchrony import WithinClip, match_within
from cavsync.train.evaluation.synchrony_config import SynchronyConfig
from cavsync.train.evaluation.task import Task

OnClip = Callable[[int, int], None]


@dataclass(frozen=True)
class Heard:
    """Pictures with one sound: how similar at each offset, and where they are most similar."""

    curve: np.ndarray  # (O,) NaN where too few pictures have a window
    delay: Delay | None

    @classmethod
    def of(cls, curve: OffsetCurve) -> "Heard":
        return cls(curve.mean, estimate_delay(curve))


@dataclass(frozen=True)
class ClipSynchrony:
    """One clip; scores are mean similarities over the pictures that both sides have, NaN where there is none."""

    key: str
    within: WithinClip
    own: Heard
    other: Heard  # with the sound of another clip
    in_step: np.ndarray  # (shifts, 2) beside the sound that comes sooner, and that comes later
    shifted: np.ndarray  # (shifts, 2)
    in_step_beside_other: float
    with_other: float


@dataclass(frozen=True)
class SynchronyScores:
    task: Task
    config: SynchronyConfig
    model: ModelConfig
    coverage: Coverage
    clips: list[ClipSynchrony]


def score_synchrony(
    task: Task,
    config: SynchronyConfig,
    device: torch.device,
    on_clip: OnClip = lambda done, total: None,
) -> SynchronyScores:
    """Slides over every usable clip of the task's split; raises CavsyncError on what a user can mend."""
    model = load_model(task.weights)
    dataset = Dataset.open(task.data.path)
    data = resolved(task.data, dataset)
    scoring = _Scoring(config, config.slider(model, data, device))
    clips = SplitMedia(dataset, data, model.config.image_size)
    for number, medium in enumerate(clips.read(), 1):
        scoring.add(medium)
        on_clip(number, len(clips))
    coverage = replace(clips.coverage, unusable=(*clips.coverage.unusable, *scoring.unusable))
    if coverage.num_scored < 2:
        raise EvaluationError(
            f"{dataset.paths.root}, split {data.split!r}: {coverage.sentence}, and two are needed, because each clip is "
            "also given another one's sound. For a single file there is --video FILE."
        )
    return SynchronyScores(task, config, model.config, coverage, scoring.finish())


@dataclass
class _Scoring:
    """One pass over the clips; each is also given the sound of the one before it, and the first that of the last."""

    config: SynchronyConfig
    slider: Slider
    unusable: list[Unusable] = field(default_factory=list)
    _clips: list[ClipSynchrony] = field(default_factory=list)
    _first: tuple[Slid, WithinClip] | None = None
    _previous: Slid | None = None

    def add(self, medium: Medium) -> None:
        slid = self.slider.slide(medium)
        within = match_within(slid)
        if within is None:
            self.unusable.append(_one_window(slid, self.slider.window.rows))
            return
        if self._previous is None:
            self._first = slid, within
        else:
            self._clips.append(self._score(slid, within, self._previous))
        self._previous = slid

    def finish(self) -> list[ClipSynchrony]:
        assert self._first is not None
        assert self._previous is not None
        return [self._score(*self._first, self._previous), *self._clips]

    def _score(self, slid: Slid, within: WithinClip, other: Slid) -> ClipSynchrony:
        config = self.config
        pairs = np.array([[-shift_s, shift_s] for shift_s in config.shifts_s])
        moved = offset_curve(slid, slid, np.array([0.0, *pairs.ravel()])).each
        foreign = offset_curve(slid, other, np.zeros(1)).each
        in_step, shifted = _beside(moved[:, :1], moved[:, 1:])
        in_step_beside_other, with_other = _beside(moved[:, :1], foreign)
        return ClipSynchrony(
            key=slid.name,
            within=within,
            own=Heard.of(offset_curve(slid, slid, config.offsets_s)),
            other=Heard.of(offset_curve(slid, other, config.offsets_s)),
            in_step=in_step.reshape(pairs.shape),
            shifted=shifted.reshape(pairs.shape),
            in_step_beside_other=float(in_step_beside_other[0]),
            with_other=float(with_other[0]),
        )


def _one_window(slid: Slid, window_rows: int) -> Unusable:
    reason = (
        "one window or one picture for the whole clip, nothing to choose from "
        f"(the model hears {window_rows / MEL_ROWS_PER_S:g} s at once)"
    )
    return Unusable(slid.name, "one_window", reason)


def _beside(in_step: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean scores (V,) of (P, 1) and (P, V) similarities over the pictures that have both; NaN without any."""
    both = np.isfinite(in_step) & np.isfinite(wrong)
    count = both.sum(axis=0)
    nothing = np.full(len(count), np.nan)
    means = (
        np.divide(np.where(both, part, 0.0).sum(axis=0), count, out=nothing.copy(), where=count > 0)
        for part in (in_step, wrong)
    )
    return next(means), next(means)
