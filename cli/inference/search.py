"""`cavsync search`: which moments of embedded videos are like a sound, a picture or a video."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cavsync.cli.console.overrides import OverridesOption, given_fields
from cavsync.cli.evaluate.options import CheckpointOption, DeviceOption, RootOption

if TYPE_CHECKING:
    from cavsync.train.embedding.window_file import WindowFile
    from cavsync.train.inference.search import Found


class Against(StrEnum):
    BOTH = "both"
    AUDIO = "audio"
    IMAGE = "image"


def search(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="A sound file, a picture or a video.")],
    embeddings: Annotated[Path, typer.Option("--in", help="The Parquet file of `cavsync embed`.")],
    checkpoint: CheckpointOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many hits at most.")] = 10,
    against: Annotated[
        Against, typer.Option(help="What of the videos the query is compared with.")
    ] = Against.BOTH,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Also write this page: thumbnails whose players start at the hit.", show_default=False
        ),
    ] = None,
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the hits as JSON, no table.")] = False,
) -> None:
    """Search embedded videos: files and spans of time that are like the query, best first."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.data.inputs import newest_run
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.embedding.embedder import Embedder
    from cavsync.train.embedding.matrix import MIN_MAPPED_WINDOWS
    from cavsync.train.embedding.window_file import WindowFile
    from cavsync.train.inference.query import read_query
    from cavsync.train.inference.search import search as find
    from cavsync.train.inference.search_page import write_search_page

    file = WindowFile.open(embeddings)
    weights = checkpoint or newest_run(root / "runs")
    loaded = LoadedCheckpoint.load(weights, device, **given_fields(overrides))
    embedder = Embedder(loaded)
    file.require_checkpoint(loaded.weights, embedder.about)
    asked = read_query(query, embedder)
    is_small = file.num_windows < MIN_MAPPED_WINDOWS
    with counting("matrix of this file, once", "rows", quiet=as_json or is_small) as on_row:
        found = find(file, asked, against.value, limit, on_row)
    if html is not None:
        write_search_page(found, file, html)
    if as_json:
        typer.echo(json.dumps(_as_record(found, file)))
        return
    _print(found, file)
    if html is not None:
        typer.echo(f"Page: {html}")


def _as_record(found: "Found", file: "WindowFile") -> dict[str, object]:
    return {
        "query": str(found.query.path),
        "kind": found.query.kind,
        "in": str(file.path),
        "windows": found.num_windows,
        "seconds": round(found.seconds, 4),
        "hits": [asdict(hit) for hit in found.hits],
    }


def _print(found: "Found", file: "WindowFile") -> None:
    from cavsync.train.inference.search_page import clock

    title = f"{found.query.path} ({found.query.kind}) among {found.num_windows:,} windows, in {found.seconds:.2f} s"
    table = Table(title=title, title_justify="left")
    for column in ("", "score", "from", "to", "best at"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    for number, hit in enumerate(found.hits):
        times = (clock(hit.start_s), clock(hit.end_s), clock(hit.best_s))
        table.add_row(str(number + 1), f"{hit.score:.2f}", *times, hit.file)
    Console().print(table)
