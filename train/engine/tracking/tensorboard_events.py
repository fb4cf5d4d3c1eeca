"""TensorBoard: the folder `tensorboard/` of a run."""

from collections.abc import Mapping

import numpy as np

from cavsync.train.engine.tracking.tracker import TrackedRun, by_path, decoded

EVENTS_NAME = "tensorboard"


class TensorboardEvents:
    """Events in the run folder; steps after `steps_done` that a killed run left there are dropped."""

    key = None

    def __init__(self, run: TrackedRun, key: str | None) -> None:
        # TensorBoard takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.run_dir / EVENTS_NAME), purge_step=run.steps_done + 1)
        lines = [f"| {name} | {value} |" for name, value in run.flat_config().items()]
        self._writer.add_text("config", "\n".join(["| field | value |", "|---|---|", *lines]), run.steps_done)

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        for name, value in by_path(group, values).items():
            self._writer.add_scalar(name, value, step)

    def image(self, name: str, png: bytes, step: int) -> None:
        pixels = np.asarray(decoded(png))  # (height, width, 3)
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self, complete: bool) -> None:
        self._writer.close()
