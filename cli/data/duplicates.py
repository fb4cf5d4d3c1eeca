"""`cavsync data duplicates`: clips that are the same recording, by their content."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.cli.console.options import with_options
from cavsync.cli.console.paths import PathOrUrl, absolute, path_argument, results_beside
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.console.warning_lines import warn
from cavsync.cli.data.options import Folder

if TYPE_CHECKING:
    from cavsync.pipeline.dataset.reader import Dataset
    from cavsync.pipeline.duplicates.fingerprints import Fingerprints
    from cavsync.pipeline.duplicates.pairs import DuplicatePair
    from cavsync.pipeline.duplicates.search import SearchResult


@with_options
def duplicates(
    folder: Folder,
    other: Annotated[
        PathOrUrl | None,
        path_argument(
            metavar="[OTHER]",
            help="Another dataset: the pairs are then of a clip of DIR and one of OTHER.",
            show_default="pairs are within DIR",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Splits of DIR: train, test, all, or the name of one.")] = "all",
    other_split: Annotated[str, typer.Option(help="Splits of OTHER.")] = "all",
    min_overlap: Annotated[float, typer.Option(min=1.0, help="Seconds that two clips must share.")] = 2.0,
    num: Annotated[int, typer.Option(min=0, help="Pairs of each kind on the page.")] = 12,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pairs and the page.",
            show_default="DIR/duplicates, or DIR/duplicates-NAME for OTHER; for a URL in NAME here",
        ),
    ] = None,
    fingerprints: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the fingerprints of clips for later runs, about 3 KB a clip.",
            show_default="DIR/fingerprints; for a URL NAME/fingerprints here",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read shards.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON instead of a table.")
    ] = False,
) -> None:
    """Find clips that are the same recording: encoded again, cut otherwise, shifted, of another size, mirrored.

    The log-mels and frames in the shards are compared, not names. `pairs.parquet` has the pairs with their times,
    `clips.parquet` the clip that each clip repeats, for `data subset --scores` and `data.scores`.
    """
    from cavsync.cli.console.progress import counting
    from cavsync.pipeline.curation.score_file import write_described
    from cavsync.pipeline.dataset.reader import Dataset
    from cavsync.pipeline.duplicates.choice import repeated_clips
    from cavsync.pipeline.duplicates.pairs import (
        CLIPS_NAME,
        PAIRS_FOLDER,
        PAIRS_NAME,
        pairs_folder,
        write_pairs,
    )
    from cavsync.pipeline.duplicates.search import SearchConfig, find_pairs
    from cavsync.train.curation.duplicates_page import DUPLICATES_PAGE, PairSource, write_duplicates_page

    if other is not None and absolute(other) == absolute(folder):
        raise typer.BadParameter(f"OTHER is DIR, {folder}; leave it out to find pairs within.")
    dataset, second = Dataset.open(folder), None if other is None else Dataset.open(other)
    inputs = command_inputs("data duplicates", None, absolute(folder), dataset.paths.summary)
    default = results_beside(folder, PAIRS_FOLDER if other is None else pairs_folder(other))
    pages = results_folder(out, default, DUPLICATES_PAGE, inputs)
    kept = fingerprints or results_beside(folder, "fingerprints")
    one = _fingerprints(dataset, split, kept, workers, as_json)
    two = None if second is None else _fingerprints(second, other_split, kept, workers, as_json)
    with counting("comparing", "pairs", quiet=as_json) as on_pair:
        config = SearchConfig(min_overlap_s=min_overlap)
        found = find_pairs(one.clips, None if two is None else two.clips, config, on_pair)
    about = _about(one, two, min_overlap)
    write_pairs(pages / PAIRS_NAME, found.pairs, about)
    repeated = repeated_clips(one.clips, found.pairs, dataset.summary["splits"], within=two is None)
    write_described(pages / CLIPS_NAME, repeated, about)
    num_repeated = len(repeated) - repeated["duplicate_of"].null_count
    lead = _lead(one, two, len(found.pairs), num_repeated)
    source = PairSource(dataset, second or dataset)
    page = write_duplicates_page(found.pairs, source, lead, pages, num, inputs)
    _warn_of_limit(found)
    if as_json:
        typer.echo(json.dumps({**about, **_counts(found, num_repeated), "out": str(pages)}))
        return
    _print(found.pairs, lead)
    typer.echo(f"Pairs: {pages / PAIRS_NAME}\nClips: {pages / CLIPS_NAME}\nPage: {page}")


@dataclass(frozen=True)
class _Compared:
    """The clips of a dataset's splits that are compared."""

    dataset: "Dataset"
    split: str
    clips: "Fingerprints"


def _fingerprints(dataset: "Dataset", split: str, kept: Path, workers: int, quiet: bool) -> _Compared:
    from cavsync.cli.console.progress import counting
    from cavsync.pipeline.duplicates.shards import dataset_fingerprints

    with counting(f"fingerprints of {dataset.paths.root.name}", "shards", quiet=quiet) as on_shard:
        return _Compared(dataset, split, dataset_fingerprints(dataset, split, kept, workers, on_shard))


def _about(one: _Compared, two: _Compared | None, min_overlap_s: float) -> dict[str, Any]:
    """The search, as both files of its result describe it."""
    from cavsync.pipeline.storage.path import sha256

    return {
        "dataset": absolute(one.dataset.paths.root),
        "summary_sha256": sha256(one.dataset.paths.summary),
        "split": one.split,
        "num_clips": len(one.clips),
        "other": None if two is None else absolute(two.dataset.paths.root),
        "other_split": None if two is None else two.split,
        "num_others": None if two is None else len(two.clips),
        "min_overlap_s": min_overlap_s,
    }


def _lead(one: _Compared, two: _Compared | None, num_pairs: int, num_repeated: int) -> str:
    searched = f"{len(one.clips):,} clips of {one.dataset.paths.root}"
    if two is not None:
        searched += f", each with {len(two.clips):,} of {two.dataset.paths.root}"
    return f"{searched}: {num_pairs:,} pairs; {num_repeated:,} clips repeat another in audio and frames"


def _warn_of_limit(found: "SearchResult") -> None:
    if found.num_limited:
        warn(
            f"{found.num_limited:,} codes are those of so many clips (jingles, title cards) that each met only the nearest of them; "
            "of copies that share nothing else, some pairs may be missing."
        )


def _counts(found: "SearchResult", num_repeated: int) -> dict[str, Any]:
    return {
        "pairs": Counter(pair.matched for pair in found.pairs),
        "num_repeated": num_repeated,
        "num_compared": found.num_compared,
        "num_limited": found.num_limited,
    }


def _print(pairs: "Sequence[DuplicatePair]", title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from cavsync.pipeline.duplicates.pairs import match_counts

    table = Table("matched", "pairs", "mirrored", "in different splits", title=title)
    for matched, one in match_counts(pairs).items():
        counts = (one.num_pairs, one.num_mirrored, one.num_across_splits)
        table.add_row(matched, *(f"{count:,}" for count in counts))
    Console().print(table)
