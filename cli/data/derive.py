"""`cavsync data subset` and `cavsync data merge`: datasets made of clips of others, without decoding."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.paths import PathOrUrl, path_argument, path_option
from cavsync.cli.console.warning_lines import warn
from cavsync.cli.data.options import Folder
from cavsync.errors import first_of
from cavsync.pipeline.dataset.config import PrepareConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from cavsync.pipeline.derived.derive import Derivation
    from cavsync.pipeline.derived.selection import ClipSelection
    from cavsync.pipeline.storage.path import AnyPath

MAX_SHOWN = 3

OutOption = Annotated[PathOrUrl, path_option(help="Folder of the dataset to make or to continue.")]
ShardSizeOption = Annotated[int, typer.Option(min=1, help="Clips in each shard.")]
SeedOption = Annotated[
    int, typer.Option(help="Of the hash that shares clips out to shards and draws --share.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print dataset.json on stdout instead of a bar and a table.")
]


def subset(
    folder: Folder,
    out: OutOption,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Clips for which this condition over the columns of the index is true, such as 'not silent and duration_s >= 5'.",
        ),
    ] = None,
    scores: Annotated[
        list[PathOrUrl] | None,
        path_option(
            help="File of `cavsync data score`, whose columns --keep may use too; may be given several times."
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="Clips whose keys are in this file, one a line, such as -0pJqpNjft4_00030000."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Clips of this split; may be given several times.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Clips with this label, or the label of this name; may be given several times."),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="This share of the clips of each split, by a hash: a larger share holds the smaller ones."
        ),
    ] = None,
    seed: SeedOption = PrepareConfig.seed,
    shard_size: ShardSizeOption = PrepareConfig.shard_size,
    as_json: Json = False,
) -> None:
    """Make a dataset of some clips of another: those that meet every option that is given. Nothing is decoded.

    Without an option it has all clips in state ok, in shards of --shard-size.
    """
    from cavsync.pipeline.curation.score_file import scored_by, with_scores
    from cavsync.pipeline.dataset.reader import Dataset
    from cavsync.pipeline.derived.derive import Derivation, SourceClips
    from cavsync.pipeline.derived.selection import ClipSelection

    dataset = Dataset.open(folder)
    label_of = dict(zip(dataset.summary["label_names"], dataset.summary["labels"], strict=True))
    selection = ClipSelection(
        splits=split or (),
        labels=[label_of.get(name, name) for name in label or ()],
        keys=None if keys is None else _keys_in(keys),
        keep=keep,
        share=share,
        seed=seed,
    )
    clips = dataset.index_table("all")
    _report_unknown(selection, clips, keys)
    scored = with_scores(clips, scores or (), report=warn)
    if scores and not keep:
        raise typer.BadParameter(
            "It chooses no clips by itself; say which with --keep.", param_hint="--scores"
        )
    part = SourceClips(dataset, selection.chosen(scored))
    history = {"command": "data subset", "of": [part.record()], "selection": selection.described()}
    if scores:
        history["scores"] = [scored_by(path) for path in scores]
    name = dataset.summary["name"]
    _write(
        Derivation(name=name, parts=[part], history=history, shard_size=shard_size, seed=seed), out, as_json
    )


def merge(
    folders: Annotated[
        list[PathOrUrl],
        path_argument(metavar="DIR...", help="Folders of two or more datasets.", show_default=False),
    ],
    out: OutOption,
    seed: SeedOption = PrepareConfig.seed,
    shard_size: ShardSizeOption = PrepareConfig.shard_size,
    as_json: Json = False,
) -> None:
    """Make one dataset of several that were prepared alike. Nothing is decoded.

    A clip that several of them have is taken from the first; the other ends as duplicate.
    """
    from cavsync.pipeline.dataset.reader import Dataset
    from cavsync.pipeline.derived.derive import Derivation, SourceClips

    if len(folders) < 2:
        raise typer.BadParameter("Name two datasets or more; `cavsync data subset` makes one of one.")
    parts = [SourceClips(dataset, dataset.index_table("all")) for dataset in map(Dataset.open, folders)]
    history = {"command": "data merge", "of": [part.record() for part in parts]}
    name = out.resolve().name
    derivation = Derivation(name=name, parts=parts, history=history, shard_size=shard_size, seed=seed)
    _write(derivation, out, as_json)
    _warn_of_other_frames(derivation)
    _warn_of_leaks(out)


def _write(derivation: "Derivation", out: "AnyPath", as_json: bool) -> None:
    from rich.console import Console

    from cavsync.cli.console.clip_states import state_table
    from cavsync.cli.console.progress import counting
    from cavsync.pipeline.derived.derive import derive

    with counting("copying", "clips", quiet=as_json) as on_clip:
        summary = derive(derivation, out, on_clip)
    if as_json:
        typer.echo(json.dumps(summary, indent=1, ensure_ascii=False))
        return
    listed = summary["num_listed"]
    Console().print(
        state_table(
            summary["states"], listed, {}, title=f"{listed:,} clips in {len(summary['shards']):,} shards"
        )
    )
    typer.echo(f"Dataset: {out}")


def _keys_in(path: Path) -> list[str]:
    try:
        keys = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(
            f"{path} cannot be read as a list of keys: {error}", param_hint="--keys"
        ) from error
    if not keys:
        raise typer.BadParameter(f"{path} is empty; it must hold keys, one a line.", param_hint="--keys")
    return keys


def _report_unknown(selection: "ClipSelection", clips: "pa.Table", keys: Path | None) -> None:
    unknown = selection.unknown_keys(clips)
    if unknown:
        warn(
            f"{len(unknown):,} of the {len(selection.keys or ()):,} keys in {keys} are of no clip in state ok: {first_of(unknown, MAX_SHOWN)}."
        )


def _warn_of_other_frames(derivation: "Derivation") -> None:
    """One key may name two videos: folders of videos often have an `001.mp4` each."""
    keys = derivation.with_other_frames()
    if keys:
        warn(
            f"{len(keys):,} clips that an earlier dataset has too, by their keys, have other frames: {first_of(keys, MAX_SHOWN)}. They are "
            "the same videos in another encoding, or other videos of these names, which are left out here: then train on "
            "the datasets side by side (`--data A --data B`), or prepare one of them again under other names."
        )


def _warn_of_leaks(out: "AnyPath") -> None:
    """A video that trains in one dataset and tests in another is in both roles of the merged one."""
    from cavsync.pipeline.dataset.inventory import Inventory
    from cavsync.pipeline.inspection.leakage import find_overlaps

    inventory = Inventory.read(out)
    leaked = find_overlaps(inventory.paths, inventory.records, inventory.roles()).leaked_ids
    if leaked:
        warn(
            f"{len(leaked):,} videos have clips in a training split and in a test split: {first_of(leaked, MAX_SHOWN)}. "
            f"`cavsync data validate {out}` names all; leave them out with `cavsync data subset`."
        )
