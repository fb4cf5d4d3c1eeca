"""Whether a heatmap prefers the prompted object to the other sounding objects of the image; needs a mask of every object.

Sounding are the classes that prompts of the set are of. A map that finds what sounds, whatever the audio, is right by chance in
one of as many cases as the image shows of them; among mute objects too it would seem to choose better than chance.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.statistics import proportion
from cavsync.train.reporting.estimate import Estimate

# Smaller things are not counted as objects of the image: 0.4 % is 9 x 8 pixels of 128 x 128.
MIN_OBJECT_FRACTION = 0.004


@dataclass(frozen=True)
class Choice:
    """One row's answer; objects are the sounding classes of an image, each taken whole."""

    first: bool  # the prompted object has the highest mean of all sounding objects
    pointed: bool  # the maximum of the map lies on the prompted object
    num_objects: int
    area: float  # fraction of the image that the prompted object covers


@dataclass(frozen=True)
class Selection:
    """Over all rows whose image shows two sounding objects or more."""

    num_rows: int
    first: Estimate
    pointed: Estimate


def choose(heatmap: np.ndarray, ids: np.ndarray, class_id: int, sounding: Collection[int]) -> Choice | None:
    """From a (side, side) map and class ids; None unless the class and another of `sounding` are there. Ties are misses."""
    counts = np.bincount(ids.ravel())
    objects = [
        int(one) for one in np.flatnonzero(counts >= MIN_OBJECT_FRACTION * ids.size) if one in sounding
    ]
    if class_id not in objects or len(objects) < 2:
        return None
    means = {one: float(heatmap[ids == one].mean()) for one in objects}
    others = max(mean for one, mean in means.items() if one != class_id)
    pointed = bool((ids[heatmap == heatmap.max()] == class_id).all())
    return Choice(means[class_id] > others, pointed, len(objects), float(counts[class_id] / ids.size))


def summarise(choices: list[Choice | None]) -> Selection | None:
    """None where no image shows two sounding objects."""
    made = [choice for choice in choices if choice is not None]
    if not made:
        return None
    return Selection(
        num_rows=len(made),
        first=proportion(
            np.array([choice.first for choice in made]),
            100 * float(np.mean([1 / choice.num_objects for choice in made])),
        ),
        pointed=proportion(
            np.array([choice.pointed for choice in made]),
            100 * float(np.mean([choice.area for choice in made])),
        ),
    )
