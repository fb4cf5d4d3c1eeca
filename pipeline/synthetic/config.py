"""What a world is made from."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from cavsync.errors import CavsyncError

Split = Literal["train", "test", "solo"]
SPLITS: tuple[Split, ...] = get_args(Split)

# Raise it whenever the same config would draw, sound or list other clips.
WORLD_VERSION = 1


class WorldError(CavsyncError):
    """A folder that cannot hold, or does not hold, the world asked for."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Equal configs make equal bytes. A clip depends on the seed, its split and its number alone."""

    num_train: int = 400
    num_test: int = 128
    num_solo: int = 0  # clips of one class each, the classes in turn: prompts for segmentation
    seed: int = 0
    duration_s: float = 10.0
    side_px: int = 128
    fps: float = 6.25
    sample_rate_hz: int = 16_000
    masked_splits: tuple[Split, ...] = ("test",)  # those whose masks are written

    def __post_init__(self) -> None:
        for split in SPLITS:
            if self.num_clips(split) < 0:
                raise ValueError(
                    f"num_{split}={self.num_clips(split)}: a world has 0 or more clips of a split"
                )
        if self.duration_s < 8:
            raise ValueError(f"{self.duration_s=}: up to five turns of 1.4 s or more need at least 8 s")
        if self.side_px < 32 or self.side_px % 2:
            raise ValueError(f"{self.side_px=}: h264 needs an even side, shapes need 32 pixels or more")

    def num_clips(self, split: Split) -> int:
        counts: dict[Split, int] = {"train": self.num_train, "test": self.num_test, "solo": self.num_solo}
        return counts[split]

    @property
    def picture_times_s(self) -> np.ndarray:
        """From 0 up to the clip's end: the last picture is still on screen when the sound ends."""
        num_pictures = int(np.ceil(self.duration_s * self.fps))
        return np.arange(num_pictures) / self.fps

    @property
    def sample_times_s(self) -> np.ndarray:
        return np.arange(round(self.duration_s * self.sample_rate_hz)) / self.sample_rate_hz

    def random(self, split: Split, number: int, *topic: int) -> np.random.Generator:
        """A generator of its own for every clip and topic, whatever the number of clips."""
        return np.random.default_rng([self.seed, SPLITS.index(split), number, *topic])

    def to_json(self) -> dict[str, Any]:
        return {"version": WORLD_VERSION, **dataclasses.asdict(self), "masked_splits": [*self.masked_splits]}
