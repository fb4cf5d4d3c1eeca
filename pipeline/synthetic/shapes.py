"""Shapes and textures as signed fields over coordinates in which a thing's radius is 1.

A shape is negative inside, zero on the edge, and grows by about 1 per unit outwards, which is what drawing
with soft edges needs. A texture is negative where the thing is dark.
"""

from collections.abc import Callable

import numpy as np

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]

REACH = 1.2  # no shape extends farther than this from its centre


def _polygon(sides: int, inradius: float) -> Field:
    """Equal sides, an edge at the bottom: the farthest of the edges' half-planes."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(sides) / sides
    normals = [(float(np.cos(angle)), float(np.sin(angle))) for angle in angles]
    return lambda u, v: np.maximum.reduce([x * u + y * v for x, y in normals]) - inradius


def _far(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The larger of two distances from the axes: squares are where it is constant."""
    larger: np.ndarray = np.maximum(abs(u), abs(v))
    return larger


def _bands(u: np.ndarray) -> np.ndarray:
    """Light in the middle, with a period of 0.55."""
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
