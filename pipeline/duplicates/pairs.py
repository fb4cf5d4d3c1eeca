"""Pairs of clips of one recording, and the Parquet file that keeps them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from cavsync.errors import CavsyncError
from cavsync.pipeline.curation.score_file import ABOUT, write_described
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.storage.parquet import read_table
from cavsync.pipeline.storage.path import AnyPath, as_path, sha256

Matched = Literal["both", "audio", "frames"]
# Where a dataset's pairs lie by default, in its folder; followed by -NAME for those with another dataset.
PAIRS_FOLDER = "duplicates"
PAIRS_NAME, CLIPS_NAME = "pairs.parquet", "clips.parquet"
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("other", pa.string()),
        pa.field("split", pa.string()),
        pa.field("other_split", pa.string()),
        pa.field("matched", pa.string()),
        pa.field("offset_s", pa.float64()),
        pa.field("overlap_s", pa.float64()),
        pa.field("mirrored", pa.bool_()),
        pa.field("audio_similarity", pa.float64()),
        pa.field("frame_similarity", pa.float64()),
    ]
)


class PairFileError(CavsyncError):
    """A file is no file of pairs, or one of other datasets; the message names it and the way out."""


@dataclass(frozen=True, kw_only=True)
class DuplicatePair:
    """Two clips that are the same recording, as a whole or in part."""

    key: str
    other: str
    split: str
    other_split: str
    matched: Matched
    offset_s: float  # the start of the other clip on this clip's clock
    overlap_s: float  # seconds that both have
    mirrored: bool
    # Fraction of the onsets in the overlap that agree; None where the audio does not match.
    audio_similarity: float | None
    # Median cosine of frames at the same time; None where none could be compared.
    frame_similarity: float | None


@dataclass(frozen=True)
class MatchCounts:
    """How many pairs match in one way."""

    num_pairs: int
    num_mirrored: int
    num_across_splits: int


@dataclass(frozen=True)
class PairFile:
    path: AnyPath
    pairs: list[DuplicatePair]
    about: Mapping[str, Any]  # the datasets, their splits, how many clips were compared


def match_counts(pairs: Sequence[DuplicatePair]) -> dict[Matched, MatchCounts]:
    """By the way in which pairs match."""
    groups = {matched: [pair for pair in pairs if pair.matched == matched] for matched in get_args(Matched)}
    return {
        matched: MatchCounts(
            num_pairs=len(group),
            num_mirrored=sum(pair.mirrored for pair in group),
            num_across_splits=sum(pair.split != pair.other_split for pair in group),
        )
        for matched, group in groups.items()
    }


def write_pairs(path: AnyPath, pairs: Sequence[DuplicatePair], about: Mapping[str, Any]) -> None:
    table = pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=SCHEMA)
    write_described(path, table, about)


def read_pairs(path: AnyPath) -> PairFile:
    """Raises PairFileError where it is not there or has other columns, DamagedFileError where it is no Parquet file."""
    way_out = "Make one with `cavsync data duplicates`."
    if not path.is_file():
        raise PairFileError(f"{path} is not there. {way_out}")
    table = read_table(path, way_out)
    about = json.loads((table.schema.metadata or {}).get(ABOUT, b"{}"))
    if not set(SCHEMA.names) <= set(table.column_names):
        raise PairFileError(
            f"{path} has the columns {', '.join(table.column_names)}, and pairs of clips have {', '.join(SCHEMA.names)}. {way_out}"
        )
    rows = table.select(SCHEMA.names).to_pylist()
    return PairFile(path, [DuplicatePair(**row) for row in rows], about)


def find_pairs_of(dataset: Dataset, others: Sequence[str]) -> PairFile | None:
    """The latest pairs in the dataset's folder that compare it with one of `others` (paths, URLs), which may be the same.

    None where there are none, or only of some splits, or from before the dataset changed.
    """
    root = dataset.paths.root
    if not isinstance(root, Path):
        return None
    compared = {str(_resolved(as_path(other))) for other in others}
    changed = sha256(dataset.paths.summary)
    files = sorted(root.glob(f"{PAIRS_FOLDER}*/{PAIRS_NAME}"), key=lambda path: path.stat().st_mtime_ns)
    for path in reversed(files):
        found = read_pairs(path)
        if found.about.get("summary_sha256") == changed and _compares(found.about, root, compared):
            return found
    return None


def _compares(about: Mapping[str, Any], root: Path, others: set[str]) -> bool:
    """Whether these are pairs of the test clips of the dataset at `root` and the training clips of one of the others."""
    if about.get("other") is None:
        return about.get("split") == "all" and str(root.resolve()) in others
    return (
        about["other"] in others
        and about["split"] in ("all", "test")
        and about["other_split"] in ("all", "train")
    )


def pairs_folder(other: AnyPath) -> str:
    """The name of the folder for pairs with another dataset."""
    return f"{PAIRS_FOLDER}-{other.name}"


def _resolved(path: AnyPath) -> AnyPath:
    return path.resolve() if isinstance(path, Path) else path
