"""What every section begins with: its arguments, its record and its sizes."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.record import Record
from cavsync.model import config as models
from cavsync.model.config import ModelConfig
from cavsync.train.engine.device import choose_device


@dataclass(frozen=True)
class Section:
    """The arguments of a section's process: OUT DEVICE SIZE SECONDS."""

    out: Path
    device: torch.device
    is_full: bool
    record: Record

    @classmethod
    def from_arguments(cls, name: str) -> "Section":
        out, device, size, seconds = sys.argv[1:]
        # The last seconds are for what is in hand to end.
        record = Record(Path(out), name, float(seconds) - 5)
        return cls(Path(out), choose_device(device), size == "full", record)  # type: ignore[arg-type]

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def model(self) -> ModelConfig:
        return models.sync_base() if self.is_full else TOY

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)


# The whole graph at a size where a step takes milliseconds on a CPU.
TOY = ModelConfig(
    audio_rows=32,
    image_size=32,
    embed_dim=16,
    num_heads=2,
    encoder_depth=1,
    decoder_dim=16,
    decoder_depth=1,
    decoder_num_heads=2,
    num_registers=1,
)
