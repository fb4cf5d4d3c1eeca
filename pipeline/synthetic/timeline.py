"""The timeline of a clip: which class sounds when, where it is and how large, without pixels and samples."""

from dataclasses import dataclass, replace

import numpy as np

from cavsync.pipeline.synthetic.classes import CLASSES, SoundingClass
from cavsync.pipeline.synthetic.config import Split, WorldConfig

GROW_S = 0.12  # a shape grows as its audio fades in, and shrinks as it fades out
MIN_TURN_S = 1.4
OVERLAP_S = (0.3, 1.2)  # below MIN_TURN_S: never three at once
RADIUS = (0.16, 0.28)  # of the frame's side
MID_LEVEL_DBFS = -18.0  # rms of a shape between the smallest and the largest

NUM_TURNS = (4, 5)
NUM_MUTES = (1, 3)
HUE_JITTER = 0.025
PITCH_JITTER_OCTAVES = 0.04
MAX_MUTE_SATURATION = 0.35


@dataclass(frozen=True)
class Motion:
    """Swaying around a point, and rotation. Lengths are fractions of the frame's side, y points down."""

    x: float
    y: float
    swing: tuple[float, float]
    swing_hz: tuple[float, float]
    swing_phase: tuple[float, float]
    angle: float
    spin: float  # radians per second

    def centre(self, times_s: np.ndarray) -> np.ndarray:
        """x and y of the centre, (2, times)."""
        radians = 2 * np.pi * np.outer(self.swing_hz, times_s) + np.array(self.swing_phase)[:, None]
        centre: np.ndarray = np.array([[self.x], [self.y]]) + np.array(self.swing)[:, None] * np.sin(radians)
        return centre

    def angles(self, times_s: np.ndarray) -> np.ndarray:
        """Rotation in radians, (times,)."""
        return self.angle + self.spin * times_s


@dataclass(frozen=True)
class Turn:
    """One class sounding in [start_s, end_s), and visible then unless it is off screen."""

    class_index: int
    start_s: float
    end_s: float
    radius: float
    motion: Motion
    hsv: tuple[float, float, float]
    pitch_octaves: float  # off the class's own pitch
    on_screen: bool = True
    octaves_per_height: float = WorldConfig.octaves_per_height
    size_range_db: float = WorldConfig.size_range_db

    @property
    def sounding(self) -> SoundingClass:
        return CLASSES[self.class_index]

    @property
    def level_dbfs(self) -> float:
        half_db = self.size_range_db / 2
        return float(np.interp(self.radius, RADIUS, (MID_LEVEL_DBFS - half_db, MID_LEVEL_DBFS + half_db)))

    def presence(self, times_s: np.ndarray) -> np.ndarray:
        """Relative size and loudness, (times,): 0 outside the turn, 1 inside it, with ramps of GROW_S."""
        edge_s = np.minimum(times_s - self.start_s, self.end_s - times_s)
        ramp = np.clip(edge_s / GROW_S, 0, 1)
        smooth: np.ndarray = ramp * ramp * (3 - 2 * ramp)
        return smooth

    def pitch_hz(self, times_s: np.ndarray) -> np.ndarray:
        """Pitch in hertz, (times,): higher in the frame is higher in pitch."""
        height = 0.5 - self.motion.centre(times_s)[1]
        octaves = self.pitch_octaves + self.octaves_per_height * height
        pitch: np.ndarray = self.sounding.base_hz * 2**octaves
        return pitch


@dataclass(frozen=True)
class Mute:
    """A shape that is visible all the time and never sounds: a pale bar or frame, or the twin of a class that sounds."""

    shape: str
    texture: str
    radius: float
    motion: Motion
    hsv: tuple[float, float, float]


@dataclass(frozen=True)
class Timeline:
    """The turns in order of their start, and the mute shapes behind them, twins last."""

    turns: tuple[Turn, ...]
    mutes: tuple[Mute, ...]


def plan_clip(config: WorldConfig, split: Split, number: int) -> Timeline:
    """The timeline of one clip; a solo clip is one turn of class `number % 10`."""
    # The difficulty draws from a stream of its own, so that turns and motions are those of the easy world.
    random, hardening = config.random(split, number, 0), config.random(split, number, 4)
    if split == "solo":
        classes, num_turns = np.array([number % len(CLASSES)]), 1
    else:
        num_turns = min(int(random.integers(NUM_TURNS[0], NUM_TURNS[1] + 1)), config.most_turns)
        classes = random.permutation(len(CLASSES))[:num_turns]
        if config.num_kinds < len(CLASSES):
            classes = hardening.integers(config.num_kinds, size=num_turns)
    is_on_screen = hardening.random(num_turns) >= config.off_screen
    turns: list[Turn] = []
    for class_index, (start_s, end_s), on_screen in zip(
        classes, _spans(random, num_turns, config), is_on_screen, strict=True
    ):
        turn = _turn(random, int(class_index), start_s, end_s, turns[-1:])
        turns.append(
            replace(
                turn,
                on_screen=bool(on_screen),
                octaves_per_height=config.octaves_per_height,
                size_range_db=config.size_range_db,
            )
        )
    mutes = [_mute(random) for _ in range(random.integers(NUM_MUTES[0], NUM_MUTES[1] + 1))]
    twins = [_twin(hardening, config.num_kinds) for _ in range(config.num_twins)]
    return Timeline(tuple(turns), (*mutes, *twins))


def _spans(random: np.random.Generator, num_turns: int, config: WorldConfig) -> list[tuple[float, float]]:
    """Turns that fill the clip; one in two runs on into the next.

    The first begins, and the last ends, just outside the clip: a shape that grows at 0 s would set the first frame
    and the first audio segment apart from all others.
    """
    total_s = config.duration_s + 2 * GROW_S
    fractions = random.dirichlet(np.full(num_turns, 2.0))
    lengths_s = MIN_TURN_S + fractions * (total_s - num_turns * MIN_TURN_S)
    stops_s = np.cumsum(lengths_s) - GROW_S
    overlaps_s = random.uniform(*OVERLAP_S, num_turns) * (random.random(num_turns) < 0.5)
    overlaps_s[-1] = 0.0
    starts_s = stops_s - lengths_s
    return [(float(a), float(b)) for a, b in zip(starts_s, stops_s + overlaps_s, strict=True)]


def _turn(
    random: np.random.Generator, class_index: int, start_s: float, end_s: float, previous: list[Turn]
) -> Turn:
    hue = _hue(random, CLASSES[class_index])
    return Turn(
        class_index=class_index,
        start_s=start_s,
        end_s=end_s,
        radius=float(random.uniform(*RADIUS)),
        motion=_motion(random, [(turn.motion.x, turn.motion.y) for turn in previous]),
        hsv=(hue, float(random.uniform(0.7, 1.0)), float(random.uniform(0.7, 1.0))),
        pitch_octaves=float(random.uniform(-PITCH_JITTER_OCTAVES, PITCH_JITTER_OCTAVES)),
    )


def _mute(random: np.random.Generator) -> Mute:
    return Mute(
        shape=("bar", "frame")[random.integers(2)],
        texture="plain",
        radius=float(random.uniform(0.12, 0.22)),
        motion=_motion(random, []),
        hsv=(
            float(random.random()),
            float(random.uniform(0.0, MAX_MUTE_SATURATION)),
            float(random.uniform(0.7, 1.0)),
        ),
    )


def _twin(random: np.random.Generator, num_kinds: int) -> Mute:
    """As large and as colourful as a turn of one of the classes that sound, whether or not the clip holds it."""
    sounding = CLASSES[random.integers(num_kinds)]
    return Mute(
        shape=sounding.shape,
        texture=sounding.texture,
        radius=float(random.uniform(*RADIUS)),
        motion=_motion(random, []),
        hsv=(_hue(random, sounding), float(random.uniform(0.7, 1.0)), float(random.uniform(0.7, 1.0))),
    )


def _hue(random: np.random.Generator, sounding: SoundingClass) -> float:
    return (sounding.hue + random.uniform(-HUE_JITTER, HUE_JITTER)) % 1.0


def _motion(random: np.random.Generator, elsewhere: list[tuple[float, float]]) -> Motion:
    """A motion within the frame, at that of three random points which is farthest from `elsewhere`."""
    points = random.uniform(0.24, 0.76, (3, 2))
    distances = [min([1.0, *(np.hypot(*(point - other)) for other in elsewhere)]) for point in points]
    x, y = points[int(np.argmax(distances))]
    swings = random.uniform(0.03, 0.10, 2)
    swings_hz = random.uniform(0.1, 0.35, 2)
    phases = random.uniform(0, 2 * np.pi, 2)
    return Motion(
        x=float(x),
        y=float(y),
        swing=(float(swings[0]), float(swings[1])),
        swing_hz=(float(swings_hz[0]), float(swings_hz[1])),
        swing_phase=(float(phases[0]), float(phases[1])),
        angle=float(random.uniform(-0.35, 0.35)),
        spin=float(random.uniform(-0.12, 0.12)),
    )
