"""A whole preparation: plan, make the unfinished shards, write the summary. Every `cavsync prepare` command calls it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain

import pyarrow.compute as pc

from cavsync.errors import OutputError
from cavsync.pipeline.curation.clip_filter import CLIP_SCHEMA, ClipFilter
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.done_record import finished_record
from cavsync.pipeline.dataset.paths import DatasetPaths, is_retry
from cavsync.pipeline.dataset.plan_row import REPLACES
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.jobs.runner import run
from cavsync.pipeline.jobs.summary import Summary, SummaryFacts, write_summary
from cavsync.pipeline.jobs.work import Work, Workers
from cavsync.pipeline.lists.listing import Listing
from cavsync.pipeline.plan.moved import move_videos
from cavsync.pipeline.plan.plan import Numbering, Plan
from cavsync.pipeline.plan.planner import PrepareError, Reporter, plan_for
from cavsync.pipeline.plan.retry import Retry, failed_clips, plan_retry, retry_plans
from cavsync.pipeline.storage.atomic import remove_temporaries
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.lock import run_lock
from cavsync.pipeline.storage.path import AnyPath, each


def prepare(
    listing: Listing,
    out: AnyPath,
    config: PrepareConfig,
    workers: Workers,
    reporter: Reporter,
    *,
    retry_failed: bool = False,
    videos_moved: bool = False,
) -> Summary:
    """Prepare `listing` into the folder `out`, making only the shards that earlier runs left unfinished.

    `retry_failed` gives the clips that failed in finished shards another try, in new shards. `videos_moved` allows that
    the folder of the videos is another one than the plan's, with the same files in it. Raises PrepareError when `out` was planned with other inputs or the disk fails, LockError when another run works there,
    FilterError where `config.keep` is no condition.
    """
    if config.keep is not None:
        ClipFilter(config.keep).check(CLIP_SCHEMA)
    with _disk_errors(out), run_lock(out):
        if videos_moved:
            move_videos(DatasetPaths(out), listing.videos, listing.archives, reporter)
        return _Run(listing, DatasetPaths(out), config, workers, reporter).run(retry_failed)


@contextmanager
def _disk_errors(out: AnyPath) -> Iterator[None]:
    """Turn errors of a full, read-only or broken disk, and of a failing store, into PrepareError."""
    try:
        yield
    except StoreError as error:  # its message has the way out
        raise PrepareError(f"Preparing {out} stopped: {error} Finished shards are kept.") from error
    except OutputError as error:
        raise PrepareError(
            f"Preparing {out} stopped: {error} Finished shards are kept; repeat the command when the cause is gone."
        ) from error
    except OSError as error:
        raise PrepareError(
            f"Preparing {out} stopped: {error}. Finished shards are kept; repeat the command when the cause is gone."
        ) from error


class _Run:
    """One run of `prepare`, which holds the lock."""

    def __init__(
        self,
        listing: Listing,
        paths: DatasetPaths,
        config: PrepareConfig,
        workers: Workers,
        reporter: Reporter,
    ) -> None:
        self.listing, self.paths, self.config = listing, paths, config
        self.workers, self.reporter = workers, reporter

    def run(self, retry_failed: bool) -> Summary:
        _remove_temporaries(self.paths.root)
        try:
            return self._run(retry_failed)
        finally:
            _remove_temporaries(self.paths.root)

    def _run(self, retry_failed: bool) -> Summary:
        plan = plan_for(self.listing, self.paths, self.config, self.reporter)
        rounds = retry_plans(self.paths)
        missing = [self._missing(one) for one in (plan, *rounds)]
        num_clips = len(plan) + sum(map(len, rounds))
        num_missing = sum(span.stop - span.start for spans in missing for span in spans.values())
        self.reporter.start(num_clips, num_clips - num_missing)
        for one, spans in zip((plan, *rounds), missing, strict=True):
            self._make(one, spans)
        num_made = sum(map(len, missing))
        if retry_failed and not any(
            map(is_retry, chain(*missing))
        ):  # else this run has just finished an interrupted retry
            num_made += self._retry(plan, rounds)
        content = write_summary(plan, _shards(plan, rounds), self.paths, self._facts())
        num_short = content["states"].get(ClipState.TOO_SHORT, 0)
        if num_short and num_made and not self.listing.names_files and _any_late(plan):
            self.reporter.log(
                f"{num_short:,} clips are too_short: their files hold too little of them, or end before them. Where files named "
                "by an id alone are clips that were cut out already, prepare them with --layout cut into another --out."
            )
        return Summary(self.paths.root, content, num_made)

    def _facts(self) -> SummaryFacts:
        listing = self.listing
        return SummaryFacts(
            splits=listing.splits,
            labels=listing.labels,
            label_names=listing.label_names,
            config=self.config.content(),
        )

    def _missing(self, plan: Plan) -> dict[str, slice]:
        """The unfinished shards of the plan."""
        spans = plan.shards()
        records = each(partial(finished_record, self.paths), spans, self.paths.root)
        return {name: spans[name] for name, record in zip(spans, records, strict=True) if record is None}

    def _make(self, plan: Plan, spans: Mapping[str, slice]) -> None:
        if spans:
            videos, archives = self.listing.videos.resolve(), self.listing.archives
            is_there = archives.is_archive(videos) or videos.is_dir()
            work = Work(plan, spans, self.config, self.paths, archives, videos if is_there else None)
            for _ in run(work, self.workers, self.reporter.clips, self.reporter.log):
                pass

    def _retry(self, plan: Plan, rounds: list[Plan]) -> int:
        """Plan a retry of the failed clips, append it to `rounds` and make it; returns its number of shards."""
        failed = failed_clips(self.paths, _shards(plan, rounds))
        retry = self._planned_retry(plan, failed, len(rounds) + 1)
        for line in _retry_description(retry, failed):
            self.reporter.log(line)
        if not len(retry.plan):
            return 0
        retry.plan.write(self.paths.retry_plan(len(rounds) + 1))
        rounds.append(retry.plan)
        spans = retry.plan.shards()
        self.reporter.start(len(retry.plan), 0)
        self._make(retry.plan, spans)
        return len(spans)

    def _planned_retry(self, plan: Plan, failed: Mapping[str, str], number: int) -> Retry:
        tree = None if self.listing.names_files else self.listing.tree()
        numbering = Numbering(self.config.shard_size, self.config.seed, suffix=f"r{number}")
        return plan_retry(plan, failed, tree, self.listing.named, self.listing.layout, numbering)


def _any_late(plan: Plan) -> bool:
    """Whether a clip is looked for in the midst of its file, as in whole uploads."""
    return bool(pc.any(pc.greater(plan.table["source_start_s"], 0.0)).as_py())


def _shards(plan: Plan, rounds: Sequence[Plan]) -> list[str]:
    """All shards; retries follow the shards they retry."""
    return [name for one in (plan, *rounds) for name in one.shards()]


def _retry_description(retry: Retry, failed: Mapping[str, str]) -> Iterator[str]:
    if retry.num_without_video:
        yield f"{retry.num_without_video:,} missing clips still have no video."
    states = Counter(str(state) for state in retry.plan.table[REPLACES].to_pylist())
    if states:
        counted = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
        yield f"Trying {len(retry.plan):,} of {len(failed):,} failed clips again: {counted}."
    else:
        yield "No clip is to be tried again."


def _remove_temporaries(root: AnyPath) -> None:
    """Remove what killed workers left; the lock keeps other runs out."""
    remove_temporaries((root, root / "shards", root / "index", root / "done"))
