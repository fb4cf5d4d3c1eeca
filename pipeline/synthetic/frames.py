"""Draws the frames of a clip and their masks.

Axes: n frames, h and w of the whole frame, b of the square box around a shape.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.synthetic.classes import BACKGROUND_ID, CLASS_IDS, MUTE_ID
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.timeline import Motion, Timeline

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]


REACH = 1.2  # no shape extends farther than this from its centre


def _polygon(sides: int, inradius: float) -> Field:
    """Equal sides, an edge at the bottom: the farthest of the edges' half-planes."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(sides) / sides
    normals = [(float(np.cos(angle)), float(np.sin(angle))) for angle in angles]
    return lambda u, v: np.maximum.reduce([x * u + y * v for x, y in normals]) - inradius


def _far(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The larger distance from the two axes, elementwise; its contour lines are squares."""
    larger: np.ndarray = np.maximum(abs(u), abs(v))
    return larger


def _bands(u: np.ndarray) -> np.ndarray:
    """Bands with a period of 0.55, light in the middle, elementwise."""
    offset: np.ndarray = (u / 0.55 + 0.5) % 1 - 0.5
    return 0.14 - abs(offset) * 0.55


SHAPES: dict[str, Field] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.95,
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.7) - 0.27,
    "half_disc": lambda u, v: np.maximum(np.hypot(u, v - 0.4) - 1.05, v - 0.4),
    "square": lambda u, v: _far(u, v) - 0.8,
    "diamond": lambda u, v: (0.8 * abs(u) + abs(v) - 0.92) / np.hypot(0.8, 1.0),
    "cross": lambda u, v: np.maximum(_far(u, v) - 1.0, np.minimum(abs(u), abs(v)) - 0.38),
    "star": lambda u, v: (np.hypot(u, v) - 0.72 - 0.34 * np.cos(5 * np.arctan2(v, u))) * 0.6,
    "triangle": _polygon(3, 0.58),
    "hexagon": _polygon(6, 0.85),
    "bar": lambda u, v: np.maximum(abs(u) - 1.0, abs(v) - 0.26),
    "frame": lambda u, v: abs(_far(u, v) - 0.7) - 0.13,
}


TEXTURES: dict[str, Field] = {
    "plain": lambda u, v: np.ones_like(u),
    "rings": lambda u, v: _bands(np.hypot(u, v)),
    "stripes": lambda u, v: _bands(u),
    "checker": lambda u, v: _bands(u) * _bands(v) * 8,
    "dot": lambda u, v: np.hypot(u, v) - 0.42,
}


DARK = 0.3  # brightness of a texture's dark parts,
OUTLINE = 0.55  # and of the outline,
OUTLINE_PX = 1.5  # of this width


@dataclass(frozen=True)
class _Sprite:
    """A shape at all n times, in pixels."""

    shape: str
    texture: str
    rgb: np.ndarray
    mask_id: int
    centre_px: np.ndarray  # (2, n)
    radius_px: np.ndarray  # (n,); 0 where the shape is absent
    angles: np.ndarray  # (n,)


def render_frames(
    config: WorldConfig, timeline: Timeline, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, h, w, 3) uint8 and masks (n, h, w) uint8, one for each of `config.frame_times_s`."""
    num_frames, side = len(config.frame_times_s), config.side_px
    canvas = np.repeat(_background(side, random)[None], num_frames, axis=0)
    masks = np.full((num_frames, side, side), BACKGROUND_ID, np.uint8)
    for sprite in _sprites(config, timeline):
        _draw(canvas, masks, sprite)
    frames: np.ndarray = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    return frames, masks


def _background(side: int, random: np.random.Generator) -> np.ndarray:
    """(h, w, 3): a colour, clouds of it and a faint grating."""
    x, y = np.meshgrid(np.arange(side) / side, np.arange(side) / side)
    angle, waves, phase = random.uniform(0, np.pi), random.uniform(4, 14), random.uniform(0, 2 * np.pi)
    grating = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    contrast = random.uniform(0.01, 0.05)
    base = random.uniform(0.15, 0.75, 3)
    background: np.ndarray = base + _clouds(side, random) + contrast * grating[..., None]
    return background.astype(np.float32)


def _clouds(side: int, random: np.random.Generator) -> np.ndarray:
    """(h, w, 3): 5 x 5 random colours, blended linearly."""
    coarse = random.normal(0, 0.09, (5, 5, 3))
    at = np.linspace(0, 4, side)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(5)))
    blended: np.ndarray = np.einsum("hi,wj,ijc->hwc", weights, weights, coarse)
    return blended


def _sprites(config: WorldConfig, timeline: Timeline) -> list[_Sprite]:
    """All sprites from back to front: the mute shapes, then the turns."""
    times_s, side = config.frame_times_s, config.side_px

    def sprite(
        shape: str, texture: str, hsv: tuple[float, ...], mask_id: int, motion: Motion, radius: np.ndarray
    ) -> _Sprite:
        rgb = np.array(colorsys.hsv_to_rgb(*hsv), np.float32)
        centre_px = motion.centre(times_s) * side
        return _Sprite(shape, texture, rgb, mask_id, centre_px, radius * side, motion.angles(times_s))

    mutes = [
        sprite(mute.shape, mute.texture, mute.hsv, MUTE_ID, mute.motion, np.full(len(times_s), mute.radius))
        for mute in timeline.mutes
    ]
    turns = [
        sprite(
            turn.sounding.shape,
            turn.sounding.texture,
            turn.hsv,
            CLASS_IDS[turn.sounding.name],
            turn.motion,
            turn.radius * turn.presence(times_s),
        )
        for turn in timeline.turns
        if turn.on_screen
    ]
    return mutes + turns


def _draw(canvas: np.ndarray, masks: np.ndarray, sprite: _Sprite) -> None:
    """Paint the sprite over `canvas` (n, h, w, 3) and its id over `masks` (n, h, w)."""
    present = np.flatnonzero(sprite.radius_px > 0.5)
    if not len(present):
        return
    box = 2 * int(np.ceil(REACH * sprite.radius_px.max())) + 4
    corners = np.floor(sprite.centre_px[:, present] - box / 2).astype(int)  # (2, present): left, top
    opacity, brightness = _shade(sprite, present, corners, box)
    colours = brightness[..., None] * sprite.rgb
    for which, frame in enumerate(present):
        (columns, box_columns), (rows, box_rows) = (
            _overlap(int(corner), box, canvas.shape[1]) for corner in corners[:, which]
        )
        alpha = opacity[which, box_rows, box_columns]
        region = canvas[frame, rows, columns]
        region += alpha[..., None] * (colours[which, box_rows, box_columns] - region)
        masks[frame, rows, columns][alpha >= 0.5] = sprite.mask_id


def _shade(
    sprite: _Sprite, present: np.ndarray, corners: np.ndarray, box: int
) -> tuple[np.ndarray, np.ndarray]:
    """Opacity and brightness (present, b, b) of the sprite in its boxes, edges softened over a pixel."""
    offsets = corners[:, :, None] + np.arange(box) + 0.5 - sprite.centre_px[:, present, None]
    dx, dy = offsets.astype(np.float32)[0][:, None, :], offsets.astype(np.float32)[1][:, :, None]
    radius = sprite.radius_px[present].astype(np.float32)[:, None, None]
    angle = sprite.angles[present].astype(np.float32)[:, None, None]
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius
    outside_px = SHAPES[sprite.shape](u, v) * radius
    light = np.clip(TEXTURES[sprite.texture](u, v) * radius + 0.5, 0, 1)
    outline = np.clip(outside_px + OUTLINE_PX, 0, 1)
    brightness = (DARK + (1 - DARK) * light) * (1 - (1 - OUTLINE) * outline)
    return np.clip(0.5 - outside_px, 0, 1), brightness


def _overlap(start: int, length: int, limit: int) -> tuple[slice, slice]:
    """[start, start + length) within [0, limit): as a slice of the whole and as one of the part."""
    first, stop = max(0, start), min(limit, start + length)
    return slice(first, stop), slice(first - start, stop - start)
