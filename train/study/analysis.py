"""The scores of complete runs, and what they say: means over seeds and paired differences to the reference arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from cavsync.train.engine.run_folder import read_lines
from cavsync.train.evaluation.intervals import student
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.study.folder import SCORES_NAME, SESSIONS_NAME, StudyFolder
from cavsync.train.study.plan import PlannedRun
from cavsync.train.study.runs import outcome_of


@dataclass(frozen=True)
class PairedDifference:
    """An arm less the one that it is compared with, over the seeds that both have; in points of %."""

    estimate: Estimate
    """The mean with its t interval; NaN where no seed has both."""
    by_seed: Mapping[int, float]

    @property
    def verdict(self) -> str:
        """What the interval says, a null result as plainly as another."""
        low, high = self.estimate.low, self.estimate.high
        if not self.by_seed:
            return "no value"
        if low is None or high is None:
            return "one seed: no interval"
        return "higher" if low > 0 else "lower" if high < 0 else "no difference shown"


@dataclass(frozen=True)
class StudyResults:
    """What the complete runs of a folder scored."""

    folder: StudyFolder

    @cached_property
    def complete(self) -> list[PlannedRun]:
        return [run for run in self.folder.runs if outcome_of(self.folder, run) == "complete"]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a run, step and metric: arm, num_steps, seed, step, metric, value, chance, num_clips, clips_sha256."""
        rows = [
            {
                **vars(run),
                **{name: line[name] for name in ("step", "num_clips", "clips_sha256")},
                "metric": metric,
                "value": float("nan") if score["value"] is None else score["value"],
                "chance": score["chance"],
            }
            for run in self.complete
            for line in read_lines(self.folder.path(run) / SCORES_NAME).to_dict("records")
            for metric, score in line["scores"].items()
        ]
        columns = [
            "arm",
            "num_steps",
            "seed",
            "step",
            "metric",
            "value",
            "chance",
            "num_clips",
            "clips_sha256",
        ]
        return pd.DataFrame(rows, columns=columns)

    def at_end(self, arm: str, budget: str, metric: str) -> dict[int, float]:
        """Seed -> the value after the last step; without the seeds that are not complete, or have no value."""
        rows = self._scores_of(arm, budget, metric)
        last = rows[rows["step"] == rows["num_steps"]]
        return {int(seed): float(value) for seed, value in zip(last["seed"], last["value"], strict=True)}

    def mean(self, arm: str, budget: str, metric: str) -> Estimate:
        """The mean over seeds with its t interval."""
        return t_interval([*self.at_end(arm, budget, metric).values()]).with_chance(self.chance(metric, arm))

    def difference(self, arm: str, budget: str, metric: str, other: str | None = None) -> PairedDifference:
        """The arm less `other`, by default the reference, seed by seed."""
        own = self.at_end(arm, budget, metric)
        compared = self.at_end(other or self.folder.study.reference, budget, metric)
        by_seed = {seed: own[seed] - compared[seed] for seed in own if seed in compared}
        return PairedDifference(t_interval([*by_seed.values()]), by_seed)

    def chance(self, metric: str, arm: str | None = None) -> float | None:
        """In %, of an arm, or the level that all arms share; None where they differ, or the metric is undefined.

        An arm of longer audio segments has fewer of them to choose from in a clip.
        """
        of_arms = (self.scores["arm"] == arm) if arm else True
        known = self.scores.loc[(self.scores["metric"] == metric) & of_arms, "chance"].dropna()
        return float(known.iloc[0]) if known.round(6).nunique() == 1 else None

    def curve(self, arm: str, budget: str, metric: str) -> pd.DataFrame:
        """A row a scored step: its mean, lowest and highest value over the seeds."""
        by_step = self._scores_of(arm, budget, metric).groupby("step")["value"]
        return by_step.agg(["mean", "min", "max"]).reset_index()

    def _scores_of(self, arm: str, budget: str, metric: str) -> pd.DataFrame:
        """The rows of `scores` that have a value."""
        scores = self.scores
        of_runs = (scores["arm"] == arm) & (scores["num_steps"] == self.folder.steps(arm, budget))
        return scores[of_runs & (scores["metric"] == metric) & scores["value"].notna()]

    def cost(self, arm: str, budget: str) -> dict[str, float]:
        """Of a run, mean over its complete seeds: CPU and wall seconds without scoring; NaN where none is complete."""
        num_steps = self.folder.steps(arm, budget)
        runs = [run for run in self.complete if (run.arm, run.num_steps) == (arm, num_steps)]
        sessions = [
            read_lines(self.folder.path(run) / SESSIONS_NAME)[["cpu_s", "wall_s"]].sum() for run in runs
        ]
        return {
            name: float(np.mean([one[name] for one in sessions] or [np.nan])) for name in ("cpu_s", "wall_s")
        }

    @property
    def scored_alike(self) -> bool:
        """Whether all runs were scored on the same clips."""
        return self.scores["clips_sha256"].nunique() <= 1


def t_interval(values: Sequence[float]) -> Estimate:
    """The mean of (N,) values with its 95 % t interval; without one for fewer than two, NaN for none."""
    if not values:
        return Estimate(float("nan"))
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean)
    low, high = student(np.array(values)) or (mean, mean)
    return Estimate(mean, low, high)
