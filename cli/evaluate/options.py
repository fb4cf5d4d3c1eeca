"""Options that all evaluations have."""

from pathlib import Path
from typing import Annotated

import typer

CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        help="Run folder or weights; by default the newest run under ROOT/runs.", show_default=False
    ),
]
RootOption = Annotated[
    Path, typer.Option(envvar="CAVSYNC_ROOT", help="Folder that holds raw/, data/ and runs/.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON, no table.")]
