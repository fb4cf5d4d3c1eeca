"""Where a command writes its results: checked before its work, and never in place of results of other inputs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cavsync.cli.console.options import given_options

if TYPE_CHECKING:
    from cavsync.pipeline.storage.path import AnyPath
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.reporting.inputs import ResultInputs

# Options that are named apart, or decide where and how results are written and computed, not what they are.
NOT_OPTIONS = {
    *("checkpoint", "data", "device", "precision", "root", "workers", "ray_address"),
    *("out", "html", "save_embeddings", "as_json"),
}


def command_inputs(
    command: str,
    checkpoint: "LoadedCheckpoint | None",
    data: Path | str | None = None,
    defined_by: "AnyPath | None" = None,
    **resolved: Any,
) -> "ResultInputs":
    """The inputs of the running command: its checkpoint, its data, and every other option that it was given.

    `defined_by` is the file that says what `data` consists of; `resolved` are values of options that have no fixed
    default.
    """
    from cavsync.pipeline.storage.path import sha256
    from cavsync.train.reporting.inputs import ResultInputs, file_input

    named: dict[str, Any] = {}
    if checkpoint is not None:
        from cavsync.train.data.inputs import INPUT_FIELDS  # loads torch, as the checkpoint did

        named["checkpoint"] = file_input(checkpoint.weights)
        named["precision"] = checkpoint.precision
        named["preprocessing"] = {name: getattr(checkpoint.inputs, name) for name in INPUT_FIELDS}
    if data is not None:
        defining = defined_by if isinstance(defined_by, Path) and defined_by.is_file() else None
        known = None if defining is None else sha256(defining)
        named["data"] = {"path": str(Path(data).resolve()), "sha256": known}
    options = {**given_options(), **resolved}
    named["options"] = {name: _plain(value) for name, value in options.items() if name not in NOT_OPTIONS}
    return ResultInputs(command, named)


def results_folder(out: Path | None, default: Path, page: str, inputs: "ResultInputs") -> Path:
    """The folder for the results: `out`, or by default `default`, numbered where that holds results of other inputs.

    Raises OutputError where it cannot be written, or where `out` holds results of other inputs.
    """
    from cavsync.train.reporting.inputs import own_page, require_own_page

    if out is not None:
        require_own_page(out / page, inputs, "--out")
        return out
    return _note_of(default, own_page(default / page, inputs, "--out", in_folder=True).parent)


def results_page(out: Path | None, default: Path, inputs: "ResultInputs") -> Path:
    """The page for the results, by the same rules."""
    from cavsync.train.reporting.inputs import own_page, require_own_page

    if out is not None:
        require_own_page(out, inputs, "--out")
        return out
    return _note_of(default, own_page(default, inputs, "--out", in_folder=False))


def _note_of(default: Path, chosen: Path) -> Path:
    if chosen != default:
        typer.echo(f"{default} holds results of other inputs; these go to {chosen}.", err=True)
    return chosen


def _plain(value: Any) -> Any:
    from cavsync.train.reporting.inputs import file_input

    if isinstance(value, Path):
        return file_input(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
