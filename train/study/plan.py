"""The runs of a study: each arm with each seed, at the length that its budgets give it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.study.definition import Arm, Budget, Study

# Checkpoints of a run at the least, for a run that is killed.
NUM_CHECKPOINTS = 10


@dataclass(frozen=True, order=True)
class PlannedRun:
    """A run of the study; two budgets that give an arm the same length share it."""

    arm: str
    num_steps: int
    seed: int

    @property
    def name(self) -> str:
        """Its folder in the study's."""
        return str(Path("runs") / self.arm / f"{self.num_steps}-steps" / f"seed-{self.seed}")

    def config(self, arm: PretrainConfig, score_at: tuple[float, ...]) -> PretrainConfig:
        """The configuration of the run, from that of its arm."""
        every = max(1, min(arm.checkpoint_every_steps, self.num_steps // NUM_CHECKPOINTS))
        monitor = replace(arm.monitor, tracker=None, curves=False, every_steps=None)
        return replace(
            arm,
            seed=self.seed,
            num_steps=self.num_steps,
            num_epochs=None,
            checkpoint_every_steps=every,
            keep_checkpoints=1,
            monitor=monitor,
        )


def budget_steps(study: Study, arm: Arm, budget: Budget, num_steps: int, flops: Mapping[str, int]) -> int:
    """Steps of an arm under a budget; `num_steps` are those under equal-steps, `flops` those of a step of each arm."""
    if budget == "equal-steps":
        return num_steps
    return max(1, round(num_steps * flops[study.compute_of] / flops[arm.name]))


def planned_runs(study: Study, lengths: Mapping[str, Mapping[str, int]]) -> list[PlannedRun]:
    """All runs, seed by seed, so that a study that is cut short has whole seeds; `lengths` is arm -> budget -> steps."""
    return [
        PlannedRun(arm.name, num_steps, seed)
        for seed in study.seeds
        for arm in study.arms
        for num_steps in dict.fromkeys(lengths[arm.name].values())
    ]
