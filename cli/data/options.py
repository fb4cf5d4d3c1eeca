"""The options that commands of `cavsync data` share, and the dataset that they name."""

from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.paths import PathOrUrl, path_argument
from cavsync.cli.console.warning_lines import warn

if TYPE_CHECKING:
    from cavsync.pipeline.dataset.inventory import Inventory
    from cavsync.pipeline.storage.path import AnyPath

Folder = Annotated[
    PathOrUrl,
    path_argument(metavar="DIR", help="Folder of a dataset, such as data/vggsound.", show_default=False),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout instead of a progress bar and tables.")
]


def open_inventory(folder: "AnyPath") -> "Inventory":
    from cavsync.pipeline.dataset.inventory import Inventory

    inventory = Inventory.read(folder)
    if inventory.unfinished:
        warn(f"{folder} is unfinished: {inventory.finished_share}. Repeat the prepare command to continue.")
    return inventory
