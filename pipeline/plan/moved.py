"""Continues a plan whose videos are in another folder now: the same files under the same names below it.

Finished shards keep the paths of before in their index; the plan says where the videos were, and readers replace the folder
(`with_moved_sources`).
"""

import pyarrow as pa

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.paths import DatasetPaths, moved_path
from cavsync.pipeline.dataset.plan_row import MOVED_FROM, VIDEOS, plan_schema
from cavsync.pipeline.plan.plan import Plan
from cavsync.pipeline.plan.planner import PrepareError, Reporter
from cavsync.pipeline.plan.retry import retry_plans
from cavsync.pipeline.storage.path import AnyPath, each


def move_videos(paths: DatasetPaths, videos: AnyPath, archives: ArchiveSet, reporter: Reporter) -> None:
    """Write the plans again with the paths that the videos have below the folder `videos`; finished shards stay.

    Raises PrepareError where none of the planned videos is there.
    """
    if not paths.plan.is_file():
        return
    plan, now = Plan.read(paths.plan), str(videos.resolve())
    before = plan.inputs[VIDEOS]
    if before == now:
        return
    moved = _moved(plan, before, now)
    reporter.log(_found(moved, videos, archives))
    # The plan comes last: after a kill before it the same command begins again, and skips the plans that it has moved.
    for number, retry in enumerate(retry_plans(paths), 1):
        if retry.inputs.get(VIDEOS) != now:
            _moved(retry, before, now).write(paths.retry_plan(number))
    moved.write(paths.plan)


def _moved(plan: Plan, before: str, now: str) -> Plan:
    sources = [source and moved_path(source, before, now) for source in plan.table["source"].to_pylist()]
    at = plan_schema().names.index("source")
    table = plan.table.set_column(at, plan_schema().field("source"), pa.array(sources, pa.string()))
    earlier = [folder for folder in plan.inputs.get(MOVED_FROM, ()) if folder not in (before, now)]
    return Plan(table, plan.inputs | {VIDEOS: now, MOVED_FROM: [*earlier, before]})


def _found(moved: Plan, videos: AnyPath, archives: ArchiveSet) -> str:
    """A line on how many of the planned videos are in their new place. Raises PrepareError where none is."""
    sources = sorted({source for source in moved.table["source"].to_pylist() if source is not None})
    num_found = sum(each(archives.is_there, sources, videos))
    if not num_found:
        raise PrepareError(
            f"{videos} holds none of the {len(sources):,} planned videos, such as {sources[0]}. --videos-moved is for the "
            "same files under the same names in another folder."
        )
    return f"The videos were moved: {num_found:,} of {len(sources):,} planned videos are in {videos}."
