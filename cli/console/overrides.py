"""The option `--set` for what a published file does not tell of its model."""

import json
from typing import Annotated, Any

import typer

OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="What a published file does not tell, e.g. num_heads=4 or modality=audio; released values otherwise.",
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
