"""A whole preparation: plan, make the shards that are missing, sum up. Every command of `cavsync prepare` ends here."""

import json
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cavsync.pipeline.config import PrepareConfig
from cavsync.pipeline.errors import CavsyncError
from cavsync.pipeline.lists import ListedClip
from cavsync.pipeline.lock import run_lock
from cavsync.pipeline.plan import Plan, make_plan
from cavsync.pipeline.runner import Record, Work, Workers, run
from cavsync.pipeline.schema import SCHEMA_VERSION, ClipState
from cavsync.pipeline.shards import DatasetPaths, finished_record, write_atomically
from cavsync.pipeline.sources import Layout, VideoTree, example_names


class PrepareError(CavsyncError):
    """A preparation that cannot start or go on in this folder."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is to be prepared: a dataset's clips, and where their videos are.

    `clips` and `tree` are functions, so that a run that finds its plan reads neither lists nor folders again.
    """

    name: str
    splits: Mapping[str, str]  # name -> role ("train", "test")
    lists: Mapping[str, str]  # name of each list -> sha256
    clips: Callable[[], Iterable[ListedClip]]
    videos: Path
    tree: Callable[[], VideoTree]
    layout: Layout = "whole"
    labels: Sequence[str] = ()  # in class order; empty: those that the lists hold, sorted
    label_names: Sequence[str] = ()
    published_rows: Mapping[str, int] = field(default_factory=dict)  # of lists that have an official size


class Reporter(Protocol):
    """Who tells the user how it goes."""

    def say(self, line: str) -> None: ...

    def start(self, num_clips: int, num_done: int) -> None:
        """`num_done` of `num_clips` were finished by an earlier run."""

    def clips(self, states: Mapping[ClipState, int]) -> None: ...


@dataclass(frozen=True)
class Summary:
    """How a preparation ended; `states` adds up to the list."""

    root: Path
    content: Mapping[str, Any]  # dataset.json
    num_made: int  # shards that this run made

    @property
    def states(self) -> Mapping[str, int]:
        states: Mapping[str, int] = self.content["states"]
        return states

    @property
    def num_listed(self) -> int:
        return sum(self.states.values())

    @property
    def failure_rate(self) -> float:
        """Share of the clips with a video that could not be prepared (missing and duplicate ones do not count)."""
        absent = sum(self.states.get(state, 0) for state in (ClipState.MISSING, ClipState.DUPLICATE))
        tried = self.num_listed - absent
        return 1 - self.states.get(ClipState.OK, 0) / tried if tried else 0.0


def prepare(
    listing: Listing, out: Path, config: PrepareConfig, workers: Workers, reporter: Reporter
) -> Summary:
    """Prepare `listing` into the folder `out`, doing only what an earlier run left undone.

    Raises PrepareError when `out` holds something else, LockError when another run works there.
    """
    paths = DatasetPaths(out)
    with run_lock(out):
        _remove_temporaries(out)
        plan = _plan(listing, paths, config, reporter)
        shards = plan.shards()
        missing = {name: span for name, span in shards.items() if finished_record(paths, name) is None}
        num_missing = sum(span.stop - span.start for span in missing.values())
        reporter.start(len(plan), len(plan) - num_missing)
        _make_shards(Work(plan, missing, config, paths), workers, reporter)
        if missing or not paths.summary.is_file():
            write_atomically(paths.summary, _as_json(_summed_up(listing, plan, paths, config)))
        return Summary(out, json.loads(paths.summary.read_text()), len(missing))


def _make_shards(work: Work, workers: Workers, reporter: Reporter) -> None:
    """Make all of `work`; a failure of the disk becomes a PrepareError that names it."""
    if not work.spans:
        return
    try:
        for _ in run(work, workers, reporter.clips, reporter.say):
            pass
    except OSError as error:
        raise PrepareError(
            f"{work.paths.root} cannot be written: {error}. Finished shards are kept."
        ) from error
    finally:
        _remove_temporaries(work.paths.root)


def _plan(listing: Listing, paths: DatasetPaths, config: PrepareConfig, reporter: Reporter) -> Plan:
    """The plan that is there, if it was made from the same inputs, or a new one."""
    inputs = _inputs(listing, config)
    if paths.plan.is_file():
        plan = Plan.read(paths.plan)
        _refuse_changes(paths.root, plan.inputs, inputs)
        return plan
    tree = listing.tree()
    reporter.say(tree.describe())
    plan = Plan(make_plan(listing.clips(), tree, listing.layout, config.shard_size, config.seed), inputs)
    _refuse_nothing(plan, listing)
    plan.write(paths.plan)
    for line in _described(plan, listing):
        reporter.say(line)
    return plan


def _refuse_nothing(plan: Plan, listing: Listing) -> None:
    """Raises PrepareError for a plan that would prepare no clip; a plan, once written, stays."""
    if not len(plan):
        raise PrepareError(f"{', '.join(listing.lists)}: no clip is listed.")
    if not plan.num_found:
        first = plan.rows(slice(0, 1))[0]
        raise PrepareError(
            f"{listing.videos} holds the video of none of the {len(plan):,} listed clips. Clip {first['clip_id']} at "
            f"{first['start_s']:g} s, for example, would be named {', '.join(example_names(first))}, or mkv, webm, ..."
        )


def _described(plan: Plan, listing: Listing) -> Iterator[str]:
    for name, published in listing.published_rows.items():
        count = plan.count_of_list(name)
        yield f"{name}: {count:,} clips" + (
            "" if count == published else f" (the published list has {published:,})"
        )
    yield f"Planned {len(plan):,} clips in {len(plan.shards()):,} shards; videos found for {plan.num_found:,}."


def _inputs(listing: Listing, config: PrepareConfig) -> dict[str, Any]:
    return {
        "dataset": listing.name,
        "lists": dict(listing.lists),
        "videos": str(listing.videos.resolve()),
        "layout": listing.layout,
        **config.content(),
    }


def _refuse_changes(root: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changes = [
        f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changes:
        raise PrepareError(
            f"{root} was planned otherwise: {'; '.join(changes)}. "
            "Repeat the first run's options to continue it, or choose another --out."
        )


def _summed_up(listing: Listing, plan: Plan, paths: DatasetPaths, config: PrepareConfig) -> dict[str, Any]:
    """The content of dataset.json, from the done-records of all shards."""
    records = {name: json.loads(paths.done(name).read_text()) for name in plan.shards()}
    states = sum((Counter(record["states"]) for record in records.values()), Counter[str]())
    if states.total() != len(plan):
        raise PrepareError(
            f"{paths.root}: {len(plan)} clips are planned, but the shards account for {states.total()}; "
            "delete the folder done/ in it and run again."
        )
    mean, std = _mel_statistics(records, listing.splits)
    labels = list(listing.labels) or plan.labels()
    return {
        "schema_version": SCHEMA_VERSION,
        "name": listing.name,
        "splits": {name: role for name, role in listing.splits.items() if name in plan.splits()},
        "shards": sorted(records),
        "num_listed": len(plan),
        "states": dict(sorted(states.items())),
        "labels": labels,
        "label_names": list(listing.label_names) or labels,
        "mel_mean": mean,
        "mel_std": std,
        "config": config.content(),
        "lists": dict(listing.lists),
        "videos": str(listing.videos.resolve()),
        "versions": _versions(),
    }


def _mel_statistics(
    records: Mapping[str, Record], splits: Mapping[str, str]
) -> tuple[float | None, float | None]:
    """Mean and deviation over every value of the training splits' log-mel; of all splits where none trains."""
    training = [r for name, r in records.items() if splits[name.rpartition("-")[0]] == "train"]
    sums = [record["mel"] for record in training or records.values()]
    count = sum(one["count"] for one in sums)
    if not count:
        return None, None
    mean = sum(one["sum"] for one in sums) / count
    variance = sum(one["sum_squares"] for one in sums) / count - mean**2
    return mean, float(np.sqrt(variance))


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


def _remove_temporaries(root: Path) -> None:
    """What killed workers left; nobody else works here while the lock is held."""
    for folder in (root, root / "shards", root / "index", root / "done"):
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)


def _as_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
