"""The clips of a dataset that are not ok, each with its file and the reason, and the most frequent reason of each state."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.index_row import read_index
from cavsync.pipeline.dataset.inventory import Inventory, with_moved_sources
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.storage.path import each

# Shards read for the most frequent reasons: with some hundred clips in each, the others would hardly change them.
MAX_SHARDS = 64
_COLUMNS = ["key", "split", "state", "reason", "source", "listed_in"]
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A listed clip that is not in state ok."""

    key: str
    split: str
    state: str
    reason: str
    source: str | None  # path or URL of its video; None where none was found
    listed_in: str | None  # "<file>:<row>"


@dataclass(frozen=True, kw_only=True)
class FrequentReason:
    """The reason that most clips of a state have; reasons that differ in numbers, paths and keys are one."""

    text: str  # in the words of one of these clips, without its path and its key
    num_clips: int
    num_counted: int  # clips of the state in the shards that were read


def failures(inventory: Inventory, shards: Iterable[str] | None = None) -> Iterator[Failure]:
    """The failures in `shards` (default: all finished ones), in order; of a clip that was tried again the latest try counts."""
    names = [shard for shard in (shards or inventory.records) if _num_failed(inventory, shard)]

    def rows_of(shard: str) -> list[dict[str, Any]]:
        rows = read_index(inventory.paths, shard, _COLUMNS, [("state", "!=", ClipState.OK)])
        columns: list[dict[str, Any]] = with_moved_sources(rows, inventory.paths).to_pylist()
        return columns

    for shard, rows in zip(names, each(rows_of, names, inventory.paths.root), strict=True):
        for row in rows:
            if inventory.is_latest(row["key"], row["state"], shard):
                yield Failure(**{**row, "reason": row["reason"] or ""})


def frequent_reasons(inventory: Inventory) -> Mapping[str, FrequentReason]:
    """State -> its most frequent reason, over at most MAX_SHARDS shards at equal distances."""
    failing = [shard for shard in inventory.records if _num_failed(inventory, shard)]
    chosen = np.linspace(0, len(failing) - 1, min(MAX_SHARDS, len(failing))).round().astype(int)
    return most_frequent(failures(inventory, [failing[index] for index in chosen])) if failing else {}


def most_frequent(found: Iterable[Failure]) -> Mapping[str, FrequentReason]:
    """State -> the most frequent reason of the failures in that state."""
    counts: dict[str, Counter[str]] = {}
    examples: dict[str, str] = {}
    for failure in found:
        text = _without_names(failure)
        pattern = _NUMBER.sub("0", text)
        examples.setdefault(pattern, text)
        counts.setdefault(failure.state, Counter())[pattern] += 1
    return {
        state: FrequentReason(text=examples[pattern], num_clips=number, num_counted=counted.total())
        for state, counted in counts.items()
        for pattern, number in counted.most_common(1)
    }


def _without_names(failure: Failure) -> str:
    text = failure.reason.replace(failure.key, "the clip")
    return text.replace(failure.source, "the file") if failure.source else text


def _num_failed(inventory: Inventory, shard: str) -> int:
    states = inventory.records[shard].states
    return sum(states.values()) - states.get(ClipState.OK, 0)
