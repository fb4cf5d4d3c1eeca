"""The report of the `cavsync checkpoint` commands, as a table or as JSON."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cavsync.model.checkpoints.description import Description
    from cavsync.train.data.inputs import CheckpointInputs


def print_report(description: "Description", result: dict[str, Any], as_json: bool) -> None:
    """Prints what a file of weights holds, then `result`, a row for each of its entries."""
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(description) | result, indent=1))
        return
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in (_rows(description) | result).items():
        table.add_row(name.replace("_", " "), _shown(value))
    Console().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, dict):  # of each encoder
        return ", ".join(f"{name} {number:.1e}" for name, number in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rows(description: "Description") -> dict[str, Any]:
    released, own = description.num_released_parameters, description.num_official_parameters
    beside = "as released" if released == own else f"the released model has {released:,}"
    rows = {
        "file": description.path,
        "model": description.kind,
        "layout": description.layout,
        "tensors": description.num_tensors,
        "parameters": description.num_parameters,
        "in the published layout": "none: the published code has no such head"
        if own is None
        else f"{own:,} ({beside})",
        "configuration": _listed(description.model_config),
    }
    if description.classifier_config:
        rows["classifier"] = _listed(description.classifier_config)
    trained = description.training
    return rows | {"training": _listed(trained) if trained else "not stated in the file"}


def _listed(values: dict[str, Any], group: str = "") -> str:
    """A line for each value; the values of a nested group follow its name."""
    lines = [
        _listed(value, f"{group}{name}.")
        if isinstance(value, dict)
        else f"{group}{name} = {json.dumps(value)}"
        for name, value in values.items()
    ]
    return "\n".join(lines)


def inputs_line(inputs: "CheckpointInputs") -> str:
    """The values that normalise and cut a log-mel, with those that are assumed."""
    return ", ".join(
        f"{name}={value}{' (assumed)' if name in inputs.assumed else ''}"
        for name, value in inputs.fields.items()
    )
