"""The option `--set` for fields of a model that a published file does not state."""

import json
from typing import Annotated, Any

import typer

OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Field of the model that a published file does not state, e.g. num_heads=4 or modality=audio; by default "
        "as the published models.",
    ),
]


def given_fields(assignments: list[str] | None) -> dict[str, Any]:
    """Field -> value; values are JSON, or the text itself."""
    return dict(_field(text) for text in assignments or [])


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUE, such as num_heads=4", param_hint="--set")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
