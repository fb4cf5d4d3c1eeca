"""The facts of a dataset card: the clips, the settings they were prepared with, the licence and the source."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, zip_longest
from typing import Any

from cavsync.pipeline.dataset.index_row import IndexRow
from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.dataset.paths import split_of
from cavsync.pipeline.dataset.reader import DatasetError, read_clip
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.inspection.clips import SampleClip
from cavsync.pipeline.inspection.statistics import Statistics

# Whose indexes are read for the image of sample clips.
MAX_SHARDS = 8


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """A finished dataset, what was counted in it, and what only its publisher knows."""

    inventory: Inventory
    statistics: Statistics
    license: str | None = None  # as the hub names it, such as cc-by-4.0; None: to be filled in
    source: str | None = None  # where the videos come from, a sentence or a URL; None: to be filled in

    @property
    def name(self) -> str:
        return self.inventory.name

    @property
    def summary(self) -> Mapping[str, Any]:
        """dataset.json. Raises DatasetError where it is not there yet."""
        return require_finished(self.inventory)

    @property
    def config(self) -> Mapping[str, Any]:
        """Fields of PrepareConfig; a dataset that was merged may lack some."""
        config: Mapping[str, Any] = self.summary["config"]
        return config

    @cached_property
    def states(self) -> Mapping[str, Mapping[str, int]]:
        """Split -> state -> clips, the latest try of each."""
        splits = self.summary["splits"]
        return {
            split: self.inventory.states(
                shard for shard in self.inventory.records if split_of(shard) == split
            )
            for split in splits
        }

    @property
    def num_ok(self) -> int:
        return sum(counts.get(ClipState.OK, 0) for counts in self.states.values())

    @property
    def loaded_splits(self) -> Mapping[str, str]:
        """Split with a clip in state ok -> its name in libraries that allow letters, digits and _ only."""
        splits = [split for split, counts in self.states.items() if counts.get(ClipState.OK)]
        return {split: re.sub(r"\W", "_", split, flags=re.ASCII) for split in splits}


def require_finished(inventory: Inventory) -> Mapping[str, Any]:
    """dataset.json. Raises DatasetError for an unfinished dataset."""
    if inventory.summary is None:
        raise DatasetError(
            f"{inventory.paths.root} is unfinished ({inventory.finished_share}): repeat its prepare command, then make "
            "its card."
        )
    return inventory.summary


def sample_clips(inventory: Inventory, num: int) -> list[SampleClip]:
    """Up to `num` clips in state ok, of as many shards as there are; without audio, whose source may be gone."""
    names = inventory.label_names
    found = islice(_rows_of_all_shards(inventory), num)
    labelled = [
        (row, replace(row, labels=[names.get(label, label) for label in row.labels])) for row in found
    ]
    return [SampleClip(named, read_clip(inventory.paths, row), None, "") for row, named in labelled]


def _rows_of_all_shards(inventory: Inventory) -> Iterator[IndexRow]:
    """Clips in state ok: the first of each shard, then the second of each, ..."""
    shards = islice(inventory.records, MAX_SHARDS)
    rows = [[row for row in inventory.rows(shard) if row.state == ClipState.OK] for shard in shards]
    return (row for one_of_each in zip_longest(*rows) for row in one_of_each if row is not None)
