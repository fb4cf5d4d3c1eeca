"""Does the sound choose its object among all that the picture shows? Needs a mask of every object."""

from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.statistics import Figure, share

# Smaller things are not counted as objects of the picture: 0.4 % is 9 x 8 pixels of 128 x 128.
MIN_OBJECT_SHARE = 0.004


@dataclass(frozen=True)
class Choice:
    """One row's answer; objects are the classes of a picture, each taken whole."""

    first: bool  # the prompted object has the highest mean of all objects
    pointed: bool  # the maximum of the map lies on the prompted object
    num_objects: int
    area: float  # share of the picture that the prompted object covers


@dataclass(frozen=True)
class Selection:
    """Over all rows whose picture shows two objects or more; `chance` is in %."""

    num_rows: int
    first: Figure
    first_chance: float
    pointed: Figure
    pointed_chance: float


def choose(heat: np.ndarray, ids: np.ndarray, class_id: int) -> Choice | None:
    """(side, side) map and class ids; None unless the class and another one are there. Ties are misses."""
    counts = np.bincount(ids.ravel())
    objects = [int(one) for one in np.flatnonzero(counts >= MIN_OBJECT_SHARE * ids.size) if one != 0]
    if class_id not in objects or len(objects) < 2:
        return None
    means = {one: float(heat[ids == one].mean()) for one in objects}
    others = max(mean for one, mean in means.items() if one != class_id)
    pointed = bool((ids[heat == heat.max()] == class_id).all())
    return Choice(means[class_id] > others, pointed, len(objects), float(counts[class_id] / ids.size))


def summarise(choices: list[Choice | None], seed: int = 0) -> Selection | None:
    """None where no row has a choice to make."""
    made = [choice for choice in choices if choice is not None]
    if not made:
        return None
    return Selection(
        num_rows=len(made),
        first=share([choice.first for choice in made], seed),
        first_chance=100 * float(np.mean([1 / choice.num_objects for choice in made])),
        pointed=share([choice.pointed for choice in made], seed),
        pointed_chance=100 * float(np.mean([choice.area for choice in made])),
    )
