"""`cavsync data status`: the progress of a preparation, and the clips that are not ok."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.data.options import Folder, Json, open_inventory

if TYPE_CHECKING:
    from cavsync.pipeline.inspection.failures import FrequentReason
    from cavsync.pipeline.inspection.status import Status
    from cavsync.pipeline.storage.path import AnyPath


def status(
    folder: Folder,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Refresh every second (every 30 s for a URL) until the preparation is finished."
        ),
    ] = False,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed",
            help="List each clip of the finished shards that is not ok, with its file and the reason; into a file or "
            "pipe as tab-separated lines.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how far a preparation is, how fast it is and which process runs it. Works from any shell."""
    from rich.console import Console
    from rich.live import Live

    from cavsync.cli.data.tables import status_view

    if failed:
        if watch:
            raise typer.BadParameter("--failed and --watch exclude each other: the list is of now.")
        _list_failures(folder, as_json)
        return
    statuses = _statuses(folder, watch)
    if as_json:
        for one, reasons in statuses:
            content = asdict(one) | {"eta_s": one.eta_s, "finished": one.is_finished}
            content["reasons"] = {state: asdict(reason) for state, reason in reasons.items()}
            typer.echo(json.dumps(content | {"root": str(folder)}))
    elif watch:
        with Live(auto_refresh=False) as live:
            for one, reasons in statuses:
                live.update(status_view(one, reasons), refresh=True)
    else:
        Console().print(status_view(*next(statuses)))


def _list_failures(folder: "AnyPath", as_json: bool) -> None:
    from cavsync.cli.data.tables import print_failures
    from cavsync.pipeline.inspection.failures import failures

    found = failures(open_inventory(folder))
    if as_json:
        for failure in found:
            typer.echo(json.dumps(asdict(failure)))
    else:
        print_failures(found)


def _statuses(folder: "AnyPath", watch: bool) -> Iterator[tuple["Status", "Mapping[str, FrequentReason]"]]:
    """The status of now and the most frequent reasons; with `watch` another one every second, or every 30 s for a URL, until it is finished."""
    from cavsync.pipeline.dataset.inventory import Inventory
    from cavsync.pipeline.inspection.failures import frequent_reasons
    from cavsync.pipeline.inspection.status import status_of

    while True:
        inventory = Inventory.read(folder)
        status = status_of(inventory)
        yield status, frequent_reasons(inventory)
        if status.is_finished or not watch:
            return
        time.sleep(1.0 if isinstance(folder, Path) else 30.0)
