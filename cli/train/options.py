"""Options that all training commands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cavsync.errors import CavsyncError

EXIT_INTERRUPTED = 130

RootOption = Annotated[Path, typer.Option(envvar="CAVSYNC_ROOT", help="Folder that holds data/ and runs/.")]
DataOption = Annotated[
    str | None,
    typer.Option(help="Dataset folder made by `cavsync prepare`, or its URL.", show_default="the preset's"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field, e.g. optimizer.lr=1e-4."),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=0, help="Processes that decode.", show_default="the preset's")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON line a step instead of a bar.")]


def require_dataset(path: str, example: str) -> None:
    """Says how to make what is missing before anything heavy is imported; a URL is left to the reader."""
    summary = Path(path) / "dataset.json"
    if "://" not in path and not summary.is_file():
        raise CavsyncError(
            f"No dataset to train on: {summary} does not exist (looked for in {Path(path).absolute()}). "
            f"Make it with `cavsync prepare {example}`, or give the folder of another one with --data."
        )


def input_options(data: str | None, root: Path, preset_path: str, num_workers: int | None) -> list[str]:
    """The assignments that --data, --root and --num-workers stand for."""
    path = data if data is not None else root / preset_path
    return [f"data.path={path}", *([] if num_workers is None else [f"data.num_workers={num_workers}"])]
