"""How much of what was listed could be scored: every skipped item is counted with its reason."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.train.errors import EvaluationError

NAMED_IN_MESSAGES = 3
NOT_IN_DATASET = "not_in_dataset"
# States of what is not there at all; what has another one is there, but cannot be used.
ABSENT = (ClipState.MISSING, NOT_IN_DATASET)


@dataclass(frozen=True)
class Unusable:
    """A listed item without a score."""

    item: str
    state: str  # one word, for counting
    reason: str  # a sentence


@dataclass(frozen=True)
class Coverage:
    num_listed: int
    unusable: tuple[Unusable, ...] = ()
    kind: str = "rows"  # what is counted, for people

    @property
    def num_found(self) -> int:
        """Items whose media are there, whether they could be scored or not."""
        return self.num_listed - sum(item.state in ABSENT for item in self.unusable)

    @property
    def num_scored(self) -> int:
        return self.num_listed - len(self.unusable)

    @property
    def sentence(self) -> str:
        """For people: "104 of 106 rows scored; 2 missing"."""
        states = Counter(item.state for item in self.unusable)
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        return f"{self.num_scored} of {self.num_listed} {self.kind} scored" + (
            f"; {counted}" if counted else ""
        )

    def require(self, max_missing: float) -> None:
        """Raises EvaluationError where a larger share than `max_missing` has no score, or all of it."""
        share = len(self.unusable) / self.num_listed
        if self.num_scored and share <= max_missing:
            return
        reasons = "; ".join(item.reason for item in self.unusable[:NAMED_IN_MESSAGES])
        more = len(self.unusable) - NAMED_IN_MESSAGES
        accepted = math.ceil(100 * share) / 100
        way_out = "Complete the data" + (
            f", or accept it with --max-missing {accepted:g}" if share < 1 else ""
        )
        raise EvaluationError(
            f"only {self.sentence}, and --max-missing allows {max_missing:.0%} to be left out. "
            f"{reasons}{f'; and {more} more' if more > 0 else ''}. {way_out}."
        )

    def scored(self, listed: Iterable[str]) -> list[str]:
        """Those of the listed items that have a score."""
        without = {item.item for item in self.unusable}
        return [item for item in listed if item not in without]

    def as_dict(self) -> dict[str, Any]:
        return {
            "listed": self.num_listed,
            "found": self.num_found,
            "scored": self.num_scored,
            "unusable": [vars(item) for item in self.unusable],
        }


def split_coverage(dataset: Dataset, split: str) -> Coverage:
    """The clips of a prepared split, with what preparation said about those that have no bytes."""
    outcomes = dataset.outcomes(split)
    failed = outcomes[outcomes["state"] != ClipState.OK]
    return Coverage(
        num_listed=len(outcomes),
        unusable=tuple(
            map(Unusable, *(failed[name].astype(str).tolist() for name in ("key", "state", "reason")))
        ),
        kind="clips",
    )
