"""`cavsync search`: the moments of embedded videos that are most similar to a query."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cavsync.cli.console.model_options import ModelOptions
from cavsync.cli.console.options import with_options
from cavsync.cli.console.paths import printable
from cavsync.cli.console.results import command_inputs
from cavsync.cli.console.warning_lines import warn
from cavsync.model.classifier_config import Modality

if TYPE_CHECKING:
    from cavsync.train.embedding.windows.window_file import WindowFile
    from cavsync.train.inference.search.hits import SearchResults


@dataclass(frozen=True, kw_only=True)
class SearchModelOptions(ModelOptions):
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Run folder or file of weights.", show_default="what embedded the file of --in"),
    ] = None


@with_options
def search(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="An audio file, an image or a video.")],
    embeddings: Annotated[Path, typer.Option("--in", help="Parquet file that `cavsync embed` wrote.")],
    *,
    model: SearchModelOptions,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of hits.")] = 10,
    against: Annotated[
        Modality,
        typer.Option(help="Embeddings of the videos to compare the query with: audio, image or both."),
    ] = "both",
    html: Annotated[
        Path | None,
        typer.Option(
            help="Also write this HTML page, with a thumbnail and a player for each hit.", show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the hits as JSON instead of a table.")
    ] = False,
) -> None:
    """Search embedded videos for the spans of time that are most similar to a query, best first."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.embedding.embedder import Embedder
    from cavsync.train.embedding.windows.matrix import MIN_MAPPED_WINDOWS
    from cavsync.train.embedding.windows.window_file import WindowFile
    from cavsync.train.inference.search.hits import search as find
    from cavsync.train.inference.search.page import write_search_page
    from cavsync.train.inference.search.query import read_query
    from cavsync.train.reporting.inputs import require_own_page

    file = WindowFile.open(embeddings)
    checkpoint = model.load(file)
    embedder = Embedder(checkpoint)
    file.require_checkpoint(checkpoint.weights, embedder.about)
    if note := file.other_precision(checkpoint.precision):
        warn(f"{note}.")
    inputs = command_inputs("search", checkpoint)
    if html is not None:
        require_own_page(html, inputs, "--html")
    searched = read_query(query, embedder)
    is_small = file.num_windows < MIN_MAPPED_WINDOWS
    with counting("writing the matrix of this file", "rows", quiet=as_json or is_small) as on_row:
        found = find(file, searched, against, limit, on_row)
    if html is not None:
        write_search_page(found, file, html, inputs)
    if as_json:
        typer.echo(json.dumps(_as_record(found, file, checkpoint.precision)))
        return
    _print(found, file)
    if html is not None:
        typer.echo(f"Page: {html}")


def _as_record(found: "SearchResults", file: "WindowFile", precision: str) -> dict[str, object]:
    return {
        "query": str(found.query.path),
        "kind": found.query.kind,
        "in": str(file.path),
        "precision": {"in": file.about.get("precision"), "query": precision},
        "windows": found.num_windows,
        "seconds": round(found.seconds, 4),
        "hits": [asdict(hit) for hit in found.hits],
    }


def _print(found: "SearchResults", file: "WindowFile") -> None:
    from cavsync.train.inference.search.page import clock

    title = f"{found.query.path} ({found.query.kind}) among {found.num_windows:,} windows, in {found.seconds:.2f} s"
    table = Table(title=title, title_justify="left")
    for column in ("", "score", "from", "to", "best at"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    for number, hit in enumerate(found.hits):
        times = (clock(hit.start_s), clock(hit.end_s), clock(hit.best_s))
        table.add_row(str(number + 1), f"{hit.score:.2f}", *times, escape(printable(hit.file)))
    Console().print(table)
