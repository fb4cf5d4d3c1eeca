"""Writes a dataset of clips of other datasets: shards, index, plan and summary as a preparation makes them, nothing decoded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.done_record import MelSums, finished_record
from cavsync.pipeline.dataset.index_row import IndexRow, index_rows, index_schema
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import VIDEOS, plan_schema
from cavsync.pipeline.dataset.reader import Dataset, read_clip, stored_crc32
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.dataset.writer import ShardWriter
from cavsync.pipeline.jobs.summary import SummaryFacts, write_summary
from cavsync.pipeline.plan.plan import Numbering, Plan, shard_order
from cavsync.pipeline.plan.repeats import seen_before
from cavsync.pipeline.storage.atomic import remove_temporaries
from cavsync.pipeline.storage.lock import run_lock
from cavsync.pipeline.storage.path import AnyPath

# Fields that may differ between datasets of one kind of clips: which clips they hold, and in which shards.
MAY_DIFFER = {"seed", "shard_size", "keep"}
# Columns beside those of the index: the number of a clip's part, its shard there, and whether an earlier part has it.
_PART, _SHARD, _DUPLICATE = "part", "from_shard", "duplicate"


class DeriveError(CavsyncError):
    """A dataset cannot be made of others; the message names them and the way out."""


@dataclass(frozen=True)
class SourceClips:
    """Clips in state ok that are taken from a dataset, as rows of its index with their shard."""

    dataset: Dataset
    clips: pa.Table

    @property
    def root(self) -> AnyPath:
        return self.dataset.paths.root

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.dataset.summary["config"]
        return config

    def record(self) -> dict[str, Any]:
        """The dataset that the clips are from, for the history."""
        summary = self.dataset.summary
        facts = {name: summary.get(name) for name in ("name", "num_listed", "states", "history")}
        folder = self.root.resolve()
        return {"folder": str(folder), **{name: value for name, value in facts.items() if value}}


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """A dataset to be made: its clips, and how they were chosen. Where two parts have one clip, the first part's counts."""

    name: str
    parts: Sequence[SourceClips]
    history: Mapping[str, Any]
    shard_size: int = PrepareConfig.shard_size
    seed: int = 0  # which clips share a shard

    def __post_init__(self) -> None:
        for part in self.parts[1:]:
            _require_same_kind(self.parts[0], part)

    def config(self) -> dict[str, Any]:
        """The fields of PrepareConfig that hold for all clips."""
        kept = {part.config.get("keep") for part in self.parts}
        own = {
            "shard_size": self.shard_size,
            "seed": self.seed,
            "keep": kept.pop() if len(kept) == 1 else None,
        }
        return dict(self.parts[0].config) | own

    def plan(self) -> tuple[Plan, pa.Table]:
        """The plan, and the clips' index rows in its order with columns for where they are from."""
        clips = pa.concat_tables(_numbered(number, part) for number, part in enumerate(self.parts))
        clips = clips.append_column(_DUPLICATE, pa.array(seen_before(clips["key"])))
        order, shard = shard_order(clips["key"], clips["split"], Numbering(self.shard_size, self.seed))
        clips = clips.take(pa.array(order))
        columns = [shard if name == "shard" else clips[name] for name in plan_schema().names]
        return Plan(pa.table(columns, schema=plan_schema()), self._inputs()), clips

    def with_other_frames(self) -> list[str]:
        """The keys that a later part has with frames of other sizes in bytes: of another file, that is."""
        parts = [part.clips.select(["key", "frame_size"]) for part in self.parts]
        clips = pa.concat_tables(parts)
        again = clips.filter(pa.array(seen_before(clips["key"])))
        repeated = clips.filter(pc.is_in(clips["key"], value_set=pc.unique(again["key"]))).to_pydict()
        firsts: dict[str, list[int]] = {}
        pairs = zip(repeated["key"], repeated["frame_size"], strict=True)
        return sorted({key for key, sizes in pairs if firsts.setdefault(key, sizes) != sizes})

    def facts(self) -> SummaryFacts:
        """What the summary holds besides counts."""
        return SummaryFacts(
            splits=_splits(self.parts),
            labels=list(_label_names(self.parts)),
            label_names=list(_label_names(self.parts).values()),
            config=self.config(),
            history=self.history,
        )

    def _inputs(self) -> dict[str, Any]:
        lists = {
            name: digest for part in self.parts for name, digest in part.dataset.summary["lists"].items()
        }
        about = {"dataset": self.name, "made_from": "datasets", "lists": lists, VIDEOS: "", "layout": "whole"}
        return about | self.config() | {"history": dict(self.history)}


def derive(derivation: Derivation, out: AnyPath, on_clip: Callable[[int, int], None]) -> dict[str, Any]:
    """Write the dataset into the folder `out`, making only the shards that an earlier run left unfinished.

    `on_clip` gets how many clips are written, and of how many; returns the content of dataset.json. Raises DeriveError
    where `out` holds another dataset, or a clip is damaged in its own; LockError while another run works there.
    """
    plan, clips = derivation.plan()
    paths, shards, num_done = DatasetPaths(out), plan.shards(), 0
    with run_lock(out):
        _write_plan(plan, paths)
        remove_temporaries((out, out / "shards", out / "index", out / "done"))
        for name, span in shards.items():
            if finished_record(paths, name) is None:
                _write_shard(paths, name, _span(clips, span), derivation.parts)
            num_done += span.stop - span.start
            on_clip(num_done, len(plan))
        return write_summary(plan, list(shards), paths, derivation.facts())


def _span(table: pa.Table, span: slice) -> pa.Table:
    return table.slice(span.start, span.stop - span.start)


def _write_plan(plan: Plan, paths: DatasetPaths) -> None:
    if not paths.plan.is_file():
        plan.write(paths.plan)
        return
    planned = Plan.read(paths.plan)
    if planned.inputs != plan.inputs or not planned.table.equals(plan.table):
        raise DeriveError(
            f"{paths.root} holds another dataset, or one that was made of other clips; choose another --out."
        )


def _write_shard(paths: DatasetPaths, shard: str, clips: pa.Table, parts: Sequence[SourceClips]) -> None:
    rows = index_rows(clips.drop_columns([_PART, _DUPLICATE]).rename_columns({_SHARD: "shard"}))
    mel = MelSums()
    with ShardWriter(paths, shard) as writer:
        for row, number, is_duplicate in zip(
            rows, clips[_PART].to_pylist(), clips[_DUPLICATE].to_pylist(), strict=True
        ):
            if is_duplicate:
                writer.add_failed(_duplicate(row))
            else:
                mel += _copy(row, parts[number].dataset, writer)
        writer.finish(mel)


def _duplicate(row: IndexRow) -> IndexRow:
    reason = f"{row.key} is in an earlier dataset too"
    return replace(row, state=ClipState.DUPLICATE, reason=reason, clip=None, members=None)


def _copy(row: IndexRow, dataset: Dataset, writer: ShardWriter) -> MelSums:
    """Append a clip as its dataset has it; returns the sums of its log-mel. Raises DeriveError for damaged bytes."""
    content = read_clip(dataset.paths, row)
    written = writer.add(replace(row, members=None), content.frames, content.mel, content.audio)
    expected = None if row.members is None else row.members.crc32
    # Another version of cavsync may have described the clip by other fields: then the bytes differ, and are whole.
    if expected is None or (written.crc32 != expected and stored_crc32(dataset.paths, row) != expected):
        raise DeriveError(
            f"{row.key} is damaged in {dataset.paths.root}, shard {row.shard}. `cavsync data validate "
            f"{dataset.paths.root} --fix` removes damaged shards; repeat its prepare command, then this one."
        )
    return MelSums.of(content.mel)


def _numbered(number: int, part: SourceClips) -> pa.Table:
    """The part's rows with the index's columns and those for its number and their shard."""
    rows = part.clips.select(index_schema().names).cast(index_schema())
    return rows.append_column(_PART, pa.repeat(number, len(rows))).append_column(_SHARD, part.clips["shard"])


def _splits(parts: Sequence[SourceClips]) -> dict[str, str]:
    """Split -> role, of all parts. Raises DeriveError where two parts use one split differently."""
    roles: dict[str, str] = {}
    for part in parts:
        for split, role in part.dataset.summary["splits"].items():
            if roles.setdefault(split, role) != role:
                raise DeriveError(
                    f"Split {split!r} is for {role} in {part.root} and for {roles[split]} in a dataset before it; "
                    "choose splits with --split, or prepare one of them with another split."
                )
    return roles


def _label_names(parts: Sequence[SourceClips]) -> dict[str, str]:
    """Label -> name, in the order of the first part's classes, then of the next part's further ones."""
    names: dict[str, str] = {}
    for part in parts:
        summary = part.dataset.summary
        for label, name in zip(summary["labels"], summary["label_names"], strict=True):
            names.setdefault(label, name)
    return names


def _require_same_kind(first: SourceClips, other: SourceClips) -> None:
    """Raises DeriveError where clips of the two were prepared differently."""
    names = sorted({*first.config, *other.config} - MAY_DIFFER)
    changes = [
        f"{name} is {first.config.get(name)!r} in {first.root} and {other.config.get(name)!r} in {other.root}"
        for name in names
        if first.config.get(name) != other.config.get(name)
    ]
    if changes:
        raise DeriveError(
            f"These datasets were prepared differently: {'; '.join(changes)}. Prepare one of them again."
        )
