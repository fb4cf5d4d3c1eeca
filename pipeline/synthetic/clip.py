"""One clip of a world: its entry in the lists, and its content in memory."""

from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.synthetic.audio import render_audio
from cavsync.pipeline.synthetic.config import Split, WorldConfig
from cavsync.pipeline.synthetic.frames import render_frames
from cavsync.pipeline.synthetic.timeline import Timeline, Turn, plan_clip

_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class WorldClip:
    """A clip as listed. Its file begins at `start_s` of an upload that does not exist."""

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
        """Names of all classes that sound, in order of their start."""
        return [turn.sounding.name for turn in self.timeline.turns]

    @property
    def main_class(self) -> str:
        """Name of the class that sounds longest."""
        return max(self.timeline.turns, key=lambda turn: turn.end_s - turn.start_s).sounding.name


@dataclass(frozen=True)
class RenderedClip:
    """The content of a clip, before any codec."""

    frames: np.ndarray  # (n, height, width, 3) uint8
    frame_times_s: np.ndarray  # (n,)
    masks: np.ndarray  # (n, height, width) uint8: 0 background, class index + 1, 255 mute shape
    waveform: np.ndarray  # (samples,) float32
    turns: tuple[Turn, ...]


def list_clip(config: WorldConfig, split: Split, number: int) -> WorldClip:
    """Id, start and timeline of a clip. Every eighth id begins with "-", as some of YouTube's do; the next one has a "_"."""
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
    frames, masks = render_frames(config, timeline, config.random(split, number, 2))
    waveform = render_audio(config, timeline, config.random(split, number, 3))
    return RenderedClip(frames, config.frame_times_s, masks, waveform, timeline.turns)
