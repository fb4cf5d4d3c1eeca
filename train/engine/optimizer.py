"""The learning rate as a pure function of the step, so that the step alone restores it.

(timm's cosine starts its climb at a given rate, not at one step's share, and torch's LambdaLR keeps a state.)
"""

import math

from cavsync.train.engine.config import ScheduleConfig


def lr_share(schedule: ScheduleConfig, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """Share of the highest rate at `step`, the number of steps already done, of `num_steps`."""
    warmup_steps = int(schedule.warmup_share * num_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule.name == "multistep":
        epochs_done = step // steps_per_epoch
        return float(schedule.gamma ** sum(epochs_done >= milestone for milestone in schedule.milestones))
    progress = (step - warmup_steps) / (num_steps - warmup_steps)
    return schedule.floor_share + (1 - schedule.floor_share) * 0.5 * (1 + math.cos(math.pi * progress))
