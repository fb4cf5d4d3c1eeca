"""The summary of a preparation: dataset.json, computed from the done-records of all shards."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.done_record import DoneRecord, MelSums, latest_states, total_notes
from cavsync.pipeline.dataset.inventory import read_json
from cavsync.pipeline.dataset.paths import DatasetPaths, split_of
from cavsync.pipeline.dataset.plan_row import VIDEOS
from cavsync.pipeline.dataset.schema import SCHEMA_VERSION, ClipState
from cavsync.pipeline.plan.plan import Plan
from cavsync.pipeline.plan.planner import LEFT_OUT, PrepareError
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.storage.path import AnyPath, each

_ABSENT = (ClipState.MISSING, ClipState.DUPLICATE)
_PREPARED = (ClipState.OK, ClipState.FILTERED)


@dataclass(frozen=True)
class Summary:
    """The outcome of a preparation; `states` adds up to the number of listed clips."""

    root: AnyPath
    content: Mapping[str, Any]  # dataset.json
    num_made: int  # shards that this run made

    @property
    def states(self) -> Mapping[str, int]:
        states: Mapping[str, int] = self.content["states"]
        return states

    @property
    def notes(self) -> Mapping[str, int]:
        """Note on clips in state ok -> clips."""
        notes: Mapping[str, int] = self.content.get("notes", {})
        return notes

    @property
    def num_listed(self) -> int:
        return sum(self.states.values())

    @property
    def failure_rate(self) -> float:
        """Failed fraction of the clips that have a video; missing and duplicate clips do not count.

        A clip that was prepared and not kept has not failed.
        """
        absent, prepared = (
            sum(self.states.get(state, 0) for state in group) for group in (_ABSENT, _PREPARED)
        )
        tried = self.num_listed - absent
        return 1 - prepared / tried if tried else 0.0


@dataclass(frozen=True, kw_only=True)
class SummaryFacts:
    """What dataset.json holds besides counts and what the plan says."""

    splits: Mapping[str, str]  # name -> role ("train", "test")
    labels: Sequence[str]  # in class order; empty: those of the clips, sorted
    label_names: Sequence[str]
    config: Mapping[str, Any]  # PrepareConfig.content()
    history: Mapping[str, Any] | None = None  # of a dataset that was made of others


def write_summary(
    plan: Plan, shards: Sequence[str], paths: DatasetPaths, facts: SummaryFacts
) -> dict[str, Any]:
    """The content of dataset.json, which is written when it lacks a shard."""
    if paths.summary.is_file():
        known = read_json(paths.summary)
        if known["shards"] == sorted(shards):
            return known
    content = _summary_content(plan, shards, paths, facts)
    write_atomically(paths.summary, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return content


def _summary_content(
    plan: Plan, shards: Sequence[str], paths: DatasetPaths, facts: SummaryFacts
) -> dict[str, Any]:
    """The content of dataset.json, from the done-records of all shards."""
    contents = each(lambda name: paths.done(name).read_bytes(), shards, paths.root)
    records = {name: DoneRecord.from_json(content) for name, content in zip(shards, contents, strict=True)}
    states = latest_states(records.values())
    if states.total() != len(plan):
        raise PrepareError(
            f"{paths.root}: {len(plan)} clips are planned, but the shards account for {states.total()}; "
            "delete the folder done/ in it and run again."
        )
    mean, std = _mel_statistics(records, facts.splits)
    labels = list(facts.labels) or plan.labels()
    return {
        "schema_version": SCHEMA_VERSION,
        "name": plan.inputs["dataset"],
        "splits": {name: role for name, role in facts.splits.items() if name in plan.splits()},
        "shards": sorted(records),
        "num_listed": len(plan),
        "states": dict(sorted(states.items())),
        "notes": total_notes(records.values()),
        "labels": labels,
        "label_names": list(facts.label_names) or labels,
        "mel_mean": mean,
        "mel_std": std,
        "config": dict(facts.config),
        "lists": plan.inputs["lists"],
        VIDEOS: plan.inputs[VIDEOS],
        LEFT_OUT: plan.inputs.get(LEFT_OUT, []),
        "versions": _versions(),
        **({} if facts.history is None else {"history": dict(facts.history)}),
    }


def _mel_statistics(
    records: Mapping[str, DoneRecord], splits: Mapping[str, str]
) -> tuple[float | None, float | None]:
    """Mean and deviation over every value of the training splits' log-mel; of all splits where none trains."""
    training = [record for name, record in records.items() if splits[split_of(name)] == "train"]
    return sum((record.mel for record in training or records.values()), MelSums()).mean_and_std()


def _versions() -> dict[str, str]:
    import av
    import PIL

    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    return {
        "cavsync": version("cavsync"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "av": av.__version__,
    } | {
        "pillow": PIL.__version__,
        **libraries,
    }
