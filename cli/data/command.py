"""`cavsync data`: progress, validation, statistics and sample clips of a prepared dataset."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.cli.console.options import with_options
from cavsync.cli.console.paths import absolute, results_beside
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.data.card import card
from cavsync.cli.data.derive import merge, subset
from cavsync.cli.data.duplicates import duplicates
from cavsync.cli.data.options import Folder, Json, open_inventory
from cavsync.cli.data.score import score
from cavsync.cli.data.status import status

if TYPE_CHECKING:
    from cavsync.pipeline.inspection.validation import DatasetValidation
    from cavsync.pipeline.storage.path import AnyPath

EXIT_FAILED = 1
# Where pages go by default, for a folder and for a URL.
DEFAULT_PAGES = "DIR/{0}; for a URL NAME/{0} here"

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Inspect prepared datasets: progress, validation, statistics, sample clips; make datasets of their clips."""


# First in the help.
app.command()(status)


@app.command()
def validate(
    folder: Folder,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Skip the checks that read all bytes: hashes of tar files, checksums of clips."
        ),
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Remove damaged shards; the prepare command then makes them again.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read shards.")] = 1,
    as_json: Json = False,
) -> None:
    """Check every byte against the plan, the index and the done-records; name the damaged shards and their defects.

    A done-record, done/SHARD.json, is written when a shard is finished and holds its counts, sizes and checksums.
    Ends with exit code 1 if something is damaged.
    Videos that are in a training split and in a test split are listed too.
    """
    from cavsync.cli.console.progress import counting
    from cavsync.cli.data.tables import print_validation
    from cavsync.pipeline.inspection.validation import remove_damaged
    from cavsync.pipeline.inspection.validation import validate as validate_shards

    inventory = open_inventory(folder)
    with counting("validating", "shards", quiet=as_json) as on_shard:
        found = validate_shards(inventory, quick=quick, workers=workers, on_shard=on_shard)
    fixed = fix and bool(found.damaged or found.summary_is_wrong)
    if fixed:
        remove_damaged(inventory.paths, found)
    if as_json:
        typer.echo(json.dumps(_validation_content(folder, found, fixed), indent=1))
    else:
        print_validation(folder, found, fixed)
    if not found.is_clean:
        raise typer.Exit(EXIT_FAILED)


@app.command()
@with_options
def stats(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the page and its plots.", show_default=DEFAULT_PAGES.format("stats")),
    ] = None,
    mel_clips: Annotated[
        int,
        typer.Option(min=0, help="Number of clips whose log-mel is read for the curve over the mel bands."),
    ] = 400,
    as_json: Json = False,
) -> None:
    """Count states, labels, durations, codecs and clips that are silent, still or have gaps, and measure the mean and deviation of the log-mel."""
    from cavsync.cli.console.progress import counting
    from cavsync.cli.data.tables import print_statistics
    from cavsync.pipeline.inspection.statistics import measure
    from cavsync.train.reporting.dataset_page import STATISTICS_PAGE, write_statistics

    inventory = open_inventory(folder)
    inputs = command_inputs("data stats", None, folder=absolute(folder))
    pages = results_folder(out, results_beside(folder, "stats"), STATISTICS_PAGE, inputs)
    with counting("counting", "shards", quiet=as_json) as on_shard:
        found = measure(inventory, num_mel_clips=mel_clips, on_shard=on_shard)
    page = write_statistics(found, pages, inputs)
    if as_json:
        # The durations of all clips would be most of the output.
        content = asdict(found) | {"durations_s": found.duration_percentiles_s(), "page": str(page)}
        typer.echo(json.dumps(content, indent=1))
    else:
        print_statistics(found)
        typer.echo(f"Page: {page}")


@app.command()
@with_options
def show(
    folder: Folder,
    key: Annotated[
        str | None, typer.Option(help="Key of the only clip to show, such as -0pJqpNjft4_00030000.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Show clips of this split only.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Show clips of this state only, such as no_audio.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, max=100, help="Number of clips.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the contact sheet.", show_default=DEFAULT_PAGES.format("show")),
    ] = None,
) -> None:
    """Make a contact sheet, PNG and HTML: frames, the log-mel with each frame's window, and a player of the audio."""
    from cavsync.pipeline.dataset.schema import ClipState
    from cavsync.pipeline.inspection.clips import clip_of_key, first_clips

    if state is not None and state not in (states := [str(one) for one in ClipState]):
        raise typer.BadParameter(
            f"{state!r} is no state; the states are {', '.join(states)}", param_hint="--state"
        )
    inventory = open_inventory(folder)
    if key is not None:
        shown = [clip_of_key(inventory, key)]
    else:
        shown = first_clips(inventory, num, split=split, state=state)
    from cavsync.train.reporting.dataset_page import SHEET_PAGE, write_sheet

    inputs = command_inputs("data show", None, folder=absolute(folder))
    pages = results_folder(out, results_beside(folder, "show"), SHEET_PAGE, inputs)
    lead = f"{len(shown)} of {inventory.num_listed:,} listed clips; {inventory.finished_share}"
    page = write_sheet(inventory.name, lead, shown, pages, inputs)
    typer.echo(f"Page: {page}\nImage: {page.with_suffix('.png')}")


def _validation_content(folder: "AnyPath", found: "DatasetValidation", fixed: bool) -> dict[str, Any]:
    return {"root": str(folder), "clean": found.is_clean, "fixed": fixed, **asdict(found)}


# Behind those that look at one dataset, in the help too.
app.command()(card)
app.command()(score)
app.command()(duplicates)
app.command()(subset)
app.command()(merge)
