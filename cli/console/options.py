"""One definition of each option that several commands share."""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster to join, such as auto or ray://host:10001. Without it, Ray starts on this machine.",
        show_default=False,
    ),
]


_given: ContextVar[Mapping[str, Any]] = ContextVar("given")


def given_options() -> Mapping[str, Any]:
    """Every option and argument of the running command, by the names of its parameters."""
    return _given.get()


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` an option for each field of its parameters that are dataclasses.

    The fields carry their `typer.Option` as parameters do, in `Annotated`; their defaults are the options' defaults.
    The command gets each dataclass as one object.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Any]] = {
        name: kind
        for name, kind in ((one.name, one.annotation) for one in signature.parameters.values())
        if isinstance(kind, type) and is_dataclass(kind)
    }
    parameters = [
        expanded
        for name, one in signature.parameters.items()
        for expanded in (_parameters(groups[name]) if name in groups else [one])
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        _given.set(dict(given))
        objects = {
            name: group(**{one.name: given.pop(one.name) for one in fields(group)})
            for name, group in groups.items()
        }
        command(**objects, **given)

    # Typer reads the signature.
    keyword_only = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parameters(group: type[Any]) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=_default(one), annotation=hints[one.name])
        for one in fields(group)
    ]


def _default(one: "Field[Any]") -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    return Parameter.empty if one.default is MISSING else one.default
