"""Weights & Biases, online or, with WANDB_MODE=offline, in the folder `wandb/` of the run for `wandb sync`."""

import secrets
from collections.abc import Mapping

from cavsync.train.engine.tracking.tracker import TrackedRun, by_path, decoded


class WandbRun:
    """A run of a W&B project.

    The step is a value like the others: W&B's own step cannot go back, as it does where a run is resumed from a
    checkpoint before its last logged step.
    """

    def __init__(self, run: TrackedRun, key: str | None) -> None:
        import wandb

        self._wandb, self.key = wandb, key or secrets.token_hex(4)
        self._run = wandb.init(
            project=run.project,
            id=self.key,
            name=run.name,
            config=dict(run.config),
            dir=str(run.run_dir),
            resume="allow",
            allow_val_change=True,  # a resumed run may be longer
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="step")

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        self._run.log({"step": step, **by_path(group, values)})

    def image(self, name: str, png: bytes, step: int) -> None:
        self._run.log({"step": step, name: self._wandb.Image(decoded(png))})

    def close(self, complete: bool) -> None:
        self._run.finish()
