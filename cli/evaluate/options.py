"""Options that several evaluations share, each defined once; a protocol chooses its own default."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cavsync.train.choices import Windows

DatasetOption = Annotated[
    Path | None,
    typer.Option("--data", help="Prepared dataset.", show_default="the one the run was trained on"),
]
MaxMissingOption = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Largest fraction of the listed items that may lack a score; more is an error."
    ),
]
WindowsOption = Annotated[
    Windows,
    typer.Option(
        help="Audio segments of a heatmap. mean: the mean over segments that cover the audio; one: the segment in its "
        "middle."
    ),
]


def report_option(default: str) -> Any:
    """The option --out; `default` says where the report goes without it."""
    return typer.Option("--out", help="Folder of the report.", show_default=default)
