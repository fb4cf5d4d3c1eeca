"""Validates a dataset against its plan and done-records, byte for byte, and removes damaged shards."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cavsync.pipeline.dataset.inventory import Inventory, plan_files, plan_inputs
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import read_plan
from cavsync.pipeline.inspection.leakage import find_overlaps
from cavsync.pipeline.inspection.shard_check import ShardCheck, digest_of
from cavsync.pipeline.jobs.processes import mapping
from cavsync.pipeline.plan.plan import Plan
from cavsync.pipeline.storage.lock import run_lock
from cavsync.pipeline.storage.path import each, files_below


@dataclass(frozen=True, kw_only=True)
class DatasetValidation:
    """The result of a validation; only `damaged` and `faults` make a dataset invalid."""

    num_checked: int  # shards
    damaged: Mapping[str, Sequence[str]]  # shard -> its faults
    faults: Sequence[str]  # faults of the dataset beyond single shards
    summary_is_wrong: bool  # dataset.json disagrees with the shards
    leaked_ids: Sequence[str]
    num_unfinished: int  # planned shards that are not finished
    strays: Sequence[str]  # tars of no planned shard; a glob over shards/ would read them

    @property
    def is_clean(self) -> bool:
        return not self.damaged and not self.faults


def validate(
    inventory: Inventory, *, quick: bool, workers: int, on_shard: Callable[[int, int], None]
) -> DatasetValidation:
    """Check every shard that was ever finished; `on_shard` gets (checked, all)."""
    checks = list(_checks(inventory, quick))
    damaged: dict[str, list[str]] = {}
    on_shard(0, len(checks))
    # In this process, many shards at once where they lie at a URL.
    with mapping(workers, partial(each, at=inventory.paths.root)) as apply:
        for number, problems in enumerate(apply(ShardCheck.run, checks), 1):
            if problems:
                damaged[checks[number - 1].shard] = problems
            on_shard(number, len(checks))
    checked = {check.shard for check in checks}
    overlaps = find_overlaps(inventory.paths, sorted(checked - damaged.keys()), inventory.roles())
    wrong_summary = [] if damaged else list(_wrong_summary(inventory))
    repeated = [f"{key} is in more than one row as ok" for key in overlaps.repeated_keys]
    return DatasetValidation(
        num_checked=len(checks),
        damaged=damaged,
        faults=[*repeated, *wrong_summary],
        summary_is_wrong=bool(wrong_summary),
        leaked_ids=overlaps.leaked_ids,
        num_unfinished=len(inventory.planned.keys() - checked),
        strays=[name for name in _tars(inventory.paths) if name[: -len(".tar")] not in inventory.planned],
    )


def remove_damaged(paths: DatasetPaths, validation: DatasetValidation) -> None:
    """Remove damaged shards, so that the next run of prepare makes them again. Raises LockError during a run."""
    with run_lock(paths.root):
        for shard in validation.damaged:
            # The done-record goes first: after a kill here the shard counts as unfinished.
            for path in (paths.done(shard), paths.tar(shard), paths.index(shard)):
                path.unlink(missing_ok=True)
        if validation.summary_is_wrong:
            paths.summary.unlink(missing_ok=True)


def _checks(inventory: Inventory, quick: bool) -> Iterator[ShardCheck]:
    """Checks of the shards that have a done-record or that dataset.json lists."""
    paths, config = inventory.paths, plan_inputs(inventory.paths)
    summarised = set(inventory.summary["shards"]) if inventory.summary else set()
    for file in plan_files(paths):
        plan = Plan(read_plan(file, ["key", "shard"]), {})
        spans = plan.shards()
        was_done = each(lambda shard: paths.done(shard).is_file(), spans, paths.root)
        for (shard, span), is_done in zip(spans.items(), was_done, strict=True):
            if shard in summarised or is_done:
                keys = plan.table["key"].slice(span.start, span.stop - span.start).to_pylist()
                yield ShardCheck(
                    paths=paths,
                    shard=shard,
                    num_planned=len(keys),
                    keys_digest=digest_of(keys),
                    config=config,
                    quick=quick,
                )


def _wrong_summary(inventory: Inventory) -> Iterator[str]:
    """Differences between dataset.json, which only a finished dataset has, and the done-records."""
    summary = inventory.summary
    if summary is None:
        return
    states = inventory.states(summary["shards"])
    if states.total() != summary["num_listed"]:
        yield f"dataset.json lists {summary['num_listed']:,} clips, its shards hold {states.total():,}"
    elif states != Counter(summary["states"]):
        yield f"dataset.json counts {summary['states']}, its shards {dict(sorted(states.items()))}"


def _tars(paths: DatasetPaths) -> list[str]:
    return sorted(files_below(paths.root / "shards", lambda name: name.endswith(".tar")))
