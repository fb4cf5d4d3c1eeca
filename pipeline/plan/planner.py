"""The plan for a listing: made by the first run, read by later ones, extended when the lists have grown.

A run with other inputs than the plan's raises PrepareError, so that no folder mixes two preparations.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.errors import CavsyncError, first_of
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import MOVED_FROM, VIDEOS
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.lists.listing import Listing
from cavsync.pipeline.lists.videos import VideoTree, example_names, num_undecided, several_files
from cavsync.pipeline.plan.plan import Numbering, Plan, make_plan
from cavsync.pipeline.plan.repeats import repeats
from cavsync.pipeline.storage.path import AnyPath

# The input of a plan that says what the folder holds beside the videos.
LEFT_OUT = "left_out"
# The input that names the archives of which not all members could be listed, and why.
DAMAGED = "damaged_archives"
# Names of files in one line.
MAX_SHOWN = 5
_MOVED = "If these are the same video files in another place, add --videos-moved. "


class PrepareError(CavsyncError):
    """A preparation cannot start or continue in this folder."""


class Reporter(Protocol):
    """Shows the progress of a preparation to the user."""

    def log(self, line: str) -> None: ...

    def start(self, num_clips: int, num_done: int) -> None:
        """`num_done` of `num_clips` were finished by an earlier run."""

    def clips(self, states: Mapping[ClipState, int]) -> None: ...


def plan_for(listing: Listing, paths: DatasetPaths, config: PrepareConfig, reporter: Reporter) -> Plan:
    """The folder's plan, extended by new clips of the lists; a new plan where there is none.

    A plan keeps the name of its dataset and where its videos were before.
    """
    inputs = _inputs(listing, config)
    if not paths.plan.is_file():
        return _new_plan(listing, inputs, paths, config, reporter)
    plan = Plan.read(paths.plan)
    _require_same_inputs(paths.root, plan.inputs, inputs)
    inputs |= {name: plan.inputs[name] for name in ("dataset", MOVED_FROM) if name in plan.inputs}
    if plan.inputs["lists"] == inputs["lists"]:
        return plan
    return _extended_plan(plan, listing, inputs, paths, config, reporter)


def _new_plan(
    listing: Listing, inputs: dict[str, Any], paths: DatasetPaths, config: PrepareConfig, reporter: Reporter
) -> Plan:
    tree = _found_tree(listing, inputs, reporter)
    plan = Plan(make_plan(listing.clips({}), tree, listing.layout, config.shard_size, config.seed), inputs)
    _require_clips(plan, listing)
    plan.write(paths.plan)
    for line in _description(plan, listing, tree):
        reporter.log(line)
    return plan


def _extended_plan(
    plan: Plan,
    listing: Listing,
    inputs: dict[str, Any],
    paths: DatasetPaths,
    config: PrepareConfig,
    reporter: Reporter,
) -> Plan:
    from cavsync.pipeline.plan.extend import add_clips  # loads pandas

    tree = _found_tree(listing, inputs, reporter)
    clips = listing.clips(_planned_ids(plan) if listing.names_files else {})
    numbering = Numbering(config.shard_size, config.seed)
    extension = add_clips(plan.table, clips, tree, listing.layout, numbering, listing.archives)
    extended = Plan(extension.table, inputs)
    extended.write(paths.plan)
    num_shards = len(extended.shards()) - len(plan.shards())
    reporter.log(f"The lists have {extension.num_new:,} new clips: {num_shards:,} new shards.")
    return extended


def _planned_ids(plan: Plan) -> dict[str, str]:
    """Source -> id of its clips."""
    rows = plan.table.select(["source", "clip_id"]).group_by(["source", "clip_id"]).aggregate([])
    return dict(zip(rows["source"].to_pylist(), rows["clip_id"].to_pylist(), strict=True))


def _found_tree(listing: Listing, inputs: dict[str, Any], reporter: Reporter) -> VideoTree:
    """The videos; what was left out and what is damaged is logged, and becomes part of the inputs."""
    tree = listing.tree()
    left_out = f"; left out: {tree.left_out.describe()}" if tree.left_out else ""
    reporter.log(tree.describe() + left_out)
    for sentence in tree.damaged:
        reporter.log(sentence)
    inputs[LEFT_OUT] = tree.left_out.records()
    if tree.damaged:
        inputs[DAMAGED] = list(tree.damaged)
    return tree


def _require_clips(plan: Plan, listing: Listing) -> None:
    """Raises PrepareError for a plan without a single video, before it is written: a written plan stays."""
    if not len(plan):
        raise PrepareError(f"{', '.join(listing.lists)}: no clip is listed.")
    if not plan.num_found:
        first = plan.rows(slice(0, 1))[0]
        raise PrepareError(
            f"{listing.videos} holds the video of none of the {len(plan):,} listed clips. Clip {first.clip_id} at "
            f"{first.start_s:g} s, for example, would be named {', '.join(example_names(first))}, or mkv, webm, ..."
        )


def _description(plan: Plan, listing: Listing, tree: VideoTree) -> Iterator[str]:
    for name, published in listing.published_rows.items():
        count = plan.count_of_list(name)
        yield f"{name}: {count:,} clips" + (
            "" if count == published else f" (the published list has {published:,})"
        )
    unknown = sorted(set(plan.labels()) - set(listing.labels)) if listing.labels else []
    if unknown:
        yield (
            f"Labels that are none of the {len(listing.labels):,} classes, so that no classifier can be trained: "
            f"{len(unknown):,} ({first_of(unknown, MAX_SHOWN)})."
        )
    yield from listing.notes
    yield from repeats(plan.table)
    if not listing.names_files and (several := several_files(tree, plan.table)):
        more = f"; and {len(several) - MAX_SHOWN:,} more" if len(several) > MAX_SHOWN else ""
        yield (
            f"{len(several):,} names belong to several files, of which the first is taken: "
            f"{'; '.join(several[:MAX_SHOWN])}{more}."
        )
    if not listing.names_files and (num_shared := num_undecided(tree, plan.table, listing.layout)):
        yield (
            f"{num_shared:,} clips are missing because a cut clip named by an id alone may be any of the listed clips of that "
            "id; name such files by id and start, like ID_000030.mp4, or use --layout whole for whole uploads."
        )
    num_shards = len(plan.shards())
    yield (
        f"Planned {len(plan):,} clips in {num_shards:,} shard{'' if num_shards == 1 else 's'}: "
        f"{_counted(plan, listing, tree)}."
    )


def _counted(plan: Plan, listing: Listing, tree: VideoTree) -> str:
    """How many clips have a video, none, or are listed before; the numbers add up to the plan."""
    has_video = pc.is_valid(plan.table["source"])
    if listing.made_from != "folder" and listing.names_files:  # the tree has those that exist
        there = pa.array([f"{tree.root}/{path}" for path in tree.names()], pa.string())
        has_video = pc.is_in(plan.table["source"], value_set=there)
    is_first = pc.invert(plan.table["duplicate"])
    num_found, num_first = (pc.sum(one).as_py() or 0 for one in (pc.and_(has_video, is_first), is_first))
    parts = [f"{num_found:,} with a video"]
    if num_first > num_found:
        parts.append(f"{num_first - num_found:,} without (missing)")
    if len(plan) > num_first:
        parts.append(f"{len(plan) - num_first:,} listed before (duplicate)")
    return ", ".join(parts)


def _inputs(listing: Listing, config: PrepareConfig) -> dict[str, Any]:
    return {
        "dataset": listing.name,
        "made_from": listing.made_from,
        "lists": dict(listing.lists),
        VIDEOS: str(listing.videos.resolve()),
        "layout": listing.layout,
        **config.content(),
    }


def _require_same_inputs(root: AnyPath, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    may_differ = {"lists", LEFT_OUT, DAMAGED, MOVED_FROM}  # lists and folders may grow
    if now["made_from"] != "description":  # the name is that of a folder, which may be renamed or copied
        may_differ.add("dataset")
    changes = [
        f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"
        for name in sorted({*before, *now} - may_differ)
        if before.get(name) != now.get(name)
    ]
    if changes:
        raise PrepareError(
            f"{root} was planned with other inputs: {'; '.join(changes)}. "
            f"{_MOVED if before.get(VIDEOS) != now[VIDEOS] else ''}"
            "Repeat the first run's options to continue it, or choose another --out."
        )
