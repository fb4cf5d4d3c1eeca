"""One clip: its place in the lists, and its content in memory."""

from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.synthetic.audio import render_sound
from cavsync.pipeline.synthetic.config import Split, WorldConfig
from cavsync.pipeline.synthetic.frames import render_pictures
from cavsync.pipeline.synthetic.timeline import Timeline, Turn, plan_clip

_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class WorldClip:
    """A clip as the lists name it. Its file begins at `start_s` of an upload that nobody made."""

    clip_id: str
    start_s: int
    split: Split
    number: int
    timeline: Timeline

    @property
    def stem(self) -> str:
        """`<id>_<start, 6 digits>`, VGGSound's name of a cut clip."""
        return f"{self.clip_id}_{self.start_s:06d}"

    @property
    def class_names(self) -> list[str]:
        """Of every class that sounds, by its start."""
        return [turn.sounding.name for turn in self.timeline.turns]

    @property
    def main_class(self) -> str:
        """Of the class that sounds longest."""
        return max(self.timeline.turns, key=lambda turn: turn.end_s - turn.start_s).sounding.name


@dataclass(frozen=True)
class RenderedClip:
    """The content of a clip, before any codec."""

    pictures: np.ndarray  # (n, height, width, 3) uint8
    picture_times_s: np.ndarray  # (n,)
    masks: np.ndarray  # (n, height, width) uint8: 0 background, class index + 1, 255 mute thing
    waveform: np.ndarray  # (samples,) float32
    turns: tuple[Turn, ...]


def list_clip(config: WorldConfig, split: Split, number: int) -> WorldClip:
    """Name and timeline of a clip; every eighth id begins with "-", as some of YouTube's do, the next has a "_"."""
    random = config.random(split, number, 1)
    letters = [_ID_LETTERS[i] for i in random.integers(len(_ID_LETTERS), size=11)]
    if number % 8 == 0:
        letters[0] = "-"
    if number % 8 == 1:
        letters[5] = "_"
    start_s = int(random.integers(0, 300))
    return WorldClip("".join(letters), start_s, split, number, plan_clip(config, split, number))


def render_clip(config: WorldConfig, split: Split, number: int) -> RenderedClip:
    """Draw and synthesise one clip."""
    timeline = plan_clip(config, split, number)
    pictures, masks = render_pictures(config, timeline, config.random(split, number, 2))
    waveform = render_sound(config, timeline, config.random(split, number, 3))
    return RenderedClip(pictures, config.picture_times_s, masks, waveform, timeline.turns)
