"""How much of what was listed could be scored: nothing that fails leaves silently."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from cavsync.train.evaluation.retrieval import EvaluationError

NAMED_IN_MESSAGES = 3


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

    @property
    def num_scored(self) -> int:
        return self.num_listed - len(self.unusable)

    @property
    def sentence(self) -> str:
        """For people: "104 of 106 rows; 2 missing"."""
        states = Counter(item.state for item in self.unusable)
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        return f"{self.num_scored} of {self.num_listed} rows" + (f"; {counted}" if counted else "")

    def require(self, max_missing: float) -> None:
        """Raises EvaluationError where a larger share than `max_missing` has no score, or all of it."""
        share = len(self.unusable) / self.num_listed
        if self.num_scored and share <= max_missing:
            return
        reasons = "; ".join(item.reason for item in self.unusable[:NAMED_IN_MESSAGES])
        more = len(self.unusable) - NAMED_IN_MESSAGES
        way_out = "Complete the data" + (
            f", or accept it with --max-missing {share:.2g}" if share < 1 else ""
        )
        raise EvaluationError(
            f"only {self.sentence} can be scored, and --max-missing allows {max_missing:.0%} to be left out. "
            f"{reasons}{f'; and {more} more' if more > 0 else ''}. {way_out}."
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "num_listed": self.num_listed,
            "num_scored": self.num_scored,
            "unusable": [vars(item) for item in self.unusable],
        }
