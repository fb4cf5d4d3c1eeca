"""What a study is: its question, its arms, its seeds, its budgets and its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.errors import StudyError
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.presets import preset

Budget = Literal["equal-steps", "equal-compute"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train."""

    name: str
    about: str = ""
    """What it is, in a sentence for the report."""
    assignments: tuple[str, ...] = ()
    """Its fields as `--set` takes them, beside those of all arms."""
    budgets: tuple[Budget, ...] = ()
    """Those of the study's budgets that it runs under."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison of arms. All that decides its figures is here, and is written down before the first run."""

    title: str
    question: str
    """What it asks, in a sentence."""
    preset: str
    reference: str
    """The arm that the others are compared with."""
    compute_of: str
    """The arm whose compute the others get under equal-compute."""
    seeds: tuple[int, ...]
    num_steps: int | None
    """Steps of a run under equal-steps; None is the length of the preset."""
    budgets: tuple[Budget, ...]
    metrics: tuple[str, ...]
    """Names of METRICS; the first is the one that decides."""
    score_at: tuple[float, ...]
    """Fractions of a run after which it is scored, ascending; the last is 1."""
    split: str
    max_clips: int | None
    """Clips to score at the most, spread over the split; None is all."""
    assignments: tuple[str, ...]
    """Fields of all arms."""
    world: Mapping[str, Any] | None
    """The small world to make where no dataset is given: `difficulty` and fields of WorldConfig."""
    arms: tuple[Arm, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    """Further comparisons: an arm, and the one that it is compared with."""

    @property
    def primary(self) -> str:
        return self.metrics[0]

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def config(self, arm: Arm, data: str) -> PretrainConfig:
        """The run of an arm on the dataset `data`, before its seed and its length are set; ConfigError names the arm."""
        try:
            given = [f"data.path={data}", *self.assignments, *arm.assignments]
            return apply_overrides(preset(self.preset), given)
        except ConfigError as error:
            raise StudyError(f"Arm {arm.name!r}: {error}") from error

    def world_config(self) -> WorldConfig | None:
        if self.world is None:
            return None
        fields = dict(self.world)
        return WorldConfig.of_difficulty(fields.pop("difficulty", "easy"), **fields)
