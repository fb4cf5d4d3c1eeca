"""Descriptions of the fields of a configuration, read from the sources of its dataclasses.

A description is the string below the field, so it stands where the field is changed. A field that holds a group of
fields is described by the first sentence of the group's docstring.
"""

import ast
import dataclasses
import inspect
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def described_fields(config: "DataclassInstance", prefix: str = "") -> dict[str, str]:
    """Dotted field -> description, "" where there is none; a group comes before its fields."""
    found = {}
    texts = _texts(type(config))
    for field in dataclasses.fields(config):
        value: Any = getattr(config, field.name)
        name = prefix + field.name
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found[name] = inspect.cleandoc(type(value).__doc__ or "").partition("\n")[0]
            found |= described_fields(value, f"{name}.")
        else:
            found[name] = texts.get(field.name, "")
    return found


def _texts(config: type) -> dict[str, str]:
    """Field -> the string below it, of a dataclass and of those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        if dataclasses.is_dataclass(kind):
            found |= _strings_below(kind)
    return found


def _strings_below(kind: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for one, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[one.target.id] = " ".join(text.value.split())
    return found
