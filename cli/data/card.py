"""`cavsync data card`: a dataset card and a Croissant description, for a dataset that is shared."""

from pathlib import Path
from typing import Annotated

import typer

from cavsync.cli.console.paths import results_beside
from cavsync.cli.data.options import Folder
from cavsync.errors import OutputError


def card(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the card. What it names lies in the dataset's folder.",
            show_default="DIR; for a URL NAME here",
        ),
    ] = None,
    license_name: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="NAME",
            help="Licence of what is published, as the hub names it, such as cc-by-4.0; without it a line to fill in.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Where the videos come from, as a URL or a sentence; without it a line to fill in.",
        ),
    ] = None,
    num: Annotated[
        int, typer.Option(min=1, max=100, help="Number of clips whose frames and log-mel are shown.")
    ] = 6,
    mel_clips: Annotated[
        int,
        typer.Option(min=0, help="Number of clips whose log-mel is read for the curve over the mel bands."),
    ] = 400,
    force: Annotated[bool, typer.Option("--force", help="Replace a card that is there.")] = False,
) -> None:
    """Write a dataset card, README.md with plots and sample clips, and a Croissant description, croissant.json, into the dataset's folder.

    The card says what the dataset is, how it was prepared, how many clips are in which state, split and label, and how
    to load it. Hugging Face's datasets and its hub read its head.
    """
    from cavsync.cli.console.progress import counting
    from cavsync.pipeline.dataset.inventory import Inventory
    from cavsync.pipeline.inspection.statistics import measure
    from cavsync.train.dataset_card.card import CARD_NAME, CROISSANT_NAME, TO_FILL_IN, write_card
    from cavsync.train.dataset_card.facts import CardFacts, require_finished

    inventory = Inventory.read(folder)
    require_finished(inventory)
    to = out or results_beside(folder, "")
    for name in (CARD_NAME, CROISSANT_NAME):
        if (to / name).exists() and not force:
            raise OutputError(
                f"{to / name} is there already, and may have been edited. Give another folder with --out, or --force to "
                "replace it."
            )
    with counting("counting", "shards") as on_shard:
        statistics = measure(inventory, num_mel_clips=mel_clips, on_shard=on_shard)
    facts = CardFacts(inventory=inventory, statistics=statistics, license=license_name, source=source)
    page = write_card(facts, to, num)
    typer.echo(f"Card: {page}\nCroissant: {page.with_name(CROISSANT_NAME)}")
    if license_name is None or source is None:
        typer.echo(
            f"Licence and source are unknown here: look for {TO_FILL_IN.strip('*').partition(' by')[0]!r} in the card."
        )
