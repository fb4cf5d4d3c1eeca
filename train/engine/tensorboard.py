"""What a run tells TensorBoard: numbers and pictures over its steps."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class EventLog:
    """The folder `tensorboard/` of a run; steps after `steps_done` that a killed run left there are dropped."""

    def __init__(self, run_dir: Path, steps_done: int) -> None:
        self._writer = SummaryWriter(str(run_dir / FOLDER), purge_step=steps_done + 1)

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, png: bytes, step: int) -> None:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
