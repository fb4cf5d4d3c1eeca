"""Whether a heatmap prefers the prompted object to the other objects of the image; needs a mask of every object."""

from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.statistics import proportion
from cavsync.train.reporting.estimate import Estimate

# Smaller things are not counted as objects of the image: 0.4 % is 9 x 8 pixels of 128 x 128.
MIN_OBJECT_FRACTION = 0.004


@dataclass(frozen=True)
class Choice:
    """One row's answer; objects are the classes of an image, each taken whole."""

    first: bool  # the prompted object has the highest mean of all objects
    pointed: bool  # the maximum of the map lies on the prompted object
    num_objects: int
    area: float  # fraction of the image that the prompted object covers


@dataclass(frozen=True)
class Selection:
    """Over all rows whose image shows two objects or more."""

    num_rows: int
    first: Estimate
    pointed: Estimate


def choose(heatmap: np.ndarray, ids: np.ndarray, class_id: int) -> Choice | None:
    """From a (side, side) map and class ids; None unless the class and another one are there. Ties are misses."""
    counts = np.bincount(ids.ravel())
    objects = [int(one) for one in np.flatnonzero(counts >= MIN_OBJECT_FRACTION * ids.size) if one != 0]
    if class_id not in objects or len(objects) < 2:
        return None
    means = {one: float(heatmap[ids == one].mean()) for one in objects}
    others = max(mean for one, mean in means.items() if one != class_id)
    pointed = bool((ids[heatmap == heatmap.max()] == class_id).all())
    return Choice(means[class_id] > others, pointed, len(objects), float(counts[class_id] / ids.size))


def summarise(choices: list[Choice | None], seed: int = 0) -> Selection | None:
    """None where no image shows two objects."""
    made = [choice for choice in choices if choice is not None]
    if not made:
        return None
    return Selection(
        num_rows=len(made),
        first=proportion(
            np.array([choice.first for choice in made]),
            100 * float(np.mean([1 / choice.num_objects for choice in made])),
            seed,
        ),
        pointed=proportion(
            np.array([choice.pointed for choice in made]),
            100 * float(np.mean([choice.area for choice in made])),
            seed,
        ),
    )
