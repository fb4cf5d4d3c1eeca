"""Runs the shards of a plan: one after the other in this process, or as Ray tasks."""

from collections import Counter
from collections.abc import Callable, Iterator

from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.jobs.shard import process_shard
from cavsync.pipeline.jobs.work import OnClips, Work, Workers


def run(work: Work, workers: Workers, on_clips: OnClips, log: Callable[[str], None]) -> Iterator[DoneRecord]:
    """Make every shard of `work`; yields done-records as they come. `log` gets lines for the user."""
    if workers.number == 1 and workers.ray_address is None:
        return _run_here(work, on_clips)
    from cavsync.pipeline.jobs.ray_runner import run_on_ray  # Ray takes half a second to import

    return run_on_ray(work, workers, on_clips, log)


def _run_here(work: Work, on_clips: OnClips) -> Iterator[DoneRecord]:
    with DecoderProcess() as decoder:
        for task in work.tasks():
            yield process_shard(task, decoder, lambda state: on_clips(Counter([state])))
