"""The option `--set` for fields of a model and its inputs that a published file does not state."""

from typing import Annotated, Any

import typer

OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Field that a published file does not state, of the model (num_heads=4, modality=audio) or of its inputs "
        "(mel_mean, mel_std, pad_value, alignment); by default as the published models. May be given several times.",
    ),
]


def given_fields(assignments: list[str] | None) -> dict[str, Any]:
    """Field -> value. Wrong usage: a text that is no FIELD=VALUE, and a field that neither model nor inputs have."""
    from cavsync.model.errors import ModelConfigError
    from cavsync.train.data.inputs import parse_fields, split_fields
    from cavsync.train.engine.config import ConfigError

    try:
        fields = parse_fields(assignments or [])
        split_fields(fields)
    except (ConfigError, ModelConfigError) as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error
    return fields
