"""The configuration of a world."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from cavsync.errors import CavsyncError
from cavsync.pipeline.synthetic.difficulty import DIFFICULTIES, Difficulty

Split = Literal["train", "test", "solo"]
SPLITS: tuple[Split, ...] = get_args(Split)

# As many as classes.py lists.
NUM_CLASSES = 10
DIFFICULTY_FIELDS = (
    *("num_kinds", "most_turns", "num_twins", "off_screen"),
    *("octaves_per_height", "size_range_db"),
)

# Raise it when the same config gives other frames, audio or lists.
WORLD_VERSION = 1


class WorldError(CavsyncError):
    """A folder does not hold, or cannot hold, the requested world."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Equal configurations give equal bytes. A clip depends only on the seed, its split and its number."""

    num_train: int = 400
    num_test: int = 128
    num_solo: int = 0  # clips of a single class, one class after the other: prompts for segmentation
    seed: int = 0
    duration_s: float = 10.0
    side_px: int = 128
    fps: float = 6.25
    sample_rate_hz: int = 16_000
    masked_splits: tuple[Split, ...] = ("test",)  # splits whose masks are written
    num_kinds: int = NUM_CLASSES
    """Classes that sound; with fewer than all a clip holds several things of a kind."""
    most_turns: int = 5
    """Turns of a clip at the most, which has 4 or 5 where they fit; with 1 a single thing sounds all the time."""
    num_twins: int = 0
    """Shapes of a clip that look like a sounding class, are visible all the time and never sound."""
    off_screen: float = 0.0
    """Probability that a turn sounds and is not visible."""
    octaves_per_height: float = 1.2
    """Pitch over the frame's height; 0 sets height and pitch apart."""
    size_range_db: float = 12.0
    """Level of the largest shape over that of the smallest; 0 sets size and level apart."""

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
        if not 1 <= self.num_kinds <= NUM_CLASSES:
            raise ValueError(f"{self.num_kinds=}: a world has 1 to {NUM_CLASSES} kinds that sound")
        if self.most_turns < 1:
            raise ValueError(f"{self.most_turns=}: a clip has 1 turn or more")
        if self.num_twins < 0:
            raise ValueError(f"{self.num_twins=}: a clip has 0 or more mute twins")
        if not 0 <= self.off_screen < 1:
            raise ValueError(f"{self.off_screen=}: it is a probability below 1, or nothing would be visible")

    @classmethod
    def of_difficulty(cls, difficulty: Difficulty, **fields: Any) -> "WorldConfig":
        """The world of a difficulty, with these fields instead of its own."""
        return cls(**{**DIFFICULTIES[difficulty], **fields})

    def num_clips(self, split: Split) -> int:
        counts: dict[Split, int] = {"train": self.num_train, "test": self.num_test, "solo": self.num_solo}
        return counts[split]

    @property
    def frame_times_s(self) -> np.ndarray:
        """Times of the frames, (n,), from 0 to the clip's end: the last frame is still on screen when the audio ends."""
        num_frames = int(np.ceil(self.duration_s * self.fps))
        return np.arange(num_frames) / self.fps

    @property
    def sample_times_s(self) -> np.ndarray:
        """Times of the audio samples, (samples,)."""
        return np.arange(round(self.duration_s * self.sample_rate_hz)) / self.sample_rate_hz

    def random(self, split: Split, number: int, *topic: int) -> np.random.Generator:
        """An independent generator for each clip and topic, whatever the number of clips."""
        return np.random.default_rng([self.seed, SPLITS.index(split), number, *topic])

    def to_json(self) -> dict[str, Any]:
        """The content of world.config.json; fields of difficulty are in it where they are not those of the easy world."""
        content = dataclasses.asdict(self) | {"masked_splits": [*self.masked_splits]}
        easy = {one.name: one.default for one in dataclasses.fields(self) if one.name in DIFFICULTY_FIELDS}
        return {"version": WORLD_VERSION} | {
            name: value for name, value in content.items() if name not in easy or value != easy[name]
        }
