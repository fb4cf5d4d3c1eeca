"""`--set a.b=value`: change fields of nested frozen records, typed by their annotations."""

import csv
import dataclasses
import difflib
import functools
import types
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cavsync.train.engine.config import ConfigError

T = TypeVar("T")
Tree = dict[str, Any]  # nested field names; a leaf is the text after "="


def apply_overrides(config: T, assignments: Sequence[str]) -> T:
    """`config` with every "a.b=value" applied at once, so that fields that check each other may change together.

    Raises ConfigError on an unknown field, a value of another type, or a result that contradicts itself.
    """
    tree: Tree = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is no assignment; write field=value, such as batch_size=32.")
        _plant(tree, path.strip().split("."), text.strip(), assignment)
    _require_known(config, tree)
    return _replace(config, tree)


def field_names(config: Any) -> list[str]:
    """All fields that --set takes, dotted, in their order: batch_size, optimizer.lr."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        inner = (
            field_names(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else None
        )
        names += [field.name] if inner is None else [f"{field.name}.{name}" for name in inner]
    return names


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'lr'?" or, with nothing near, the list of what exists."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names)}."


def _require_known(config: Any, tree: Tree) -> None:
    """ConfigError for a field that does not exist, with the nearest as --set takes it."""
    known = field_names(config)
    groups = {name.rpartition(".")[0] for name in known} - {""}
    for name in _leaves(tree):
        if name in known or name in groups or any(name.startswith(f"{leaf}.") for leaf in known):
            continue  # what is wrong with a group, or with a field of none, `_replace` says
        group, _, last = name.rpartition(".")
        owner = type(
            functools.reduce(getattr, group.split("."), config) if group in groups else config
        ).__name__
        raise ConfigError(
            f"{owner} has no field {(last if group in groups else name)!r}{nearest_field(name, known)}"
        )


def nearest_field(name: str, known: Sequence[str]) -> str:
    """ "; did you mean 'optimizer.lr'?" for `lr`: fields that end so, else the nearest beside it, else the nearest of all."""
    group, _, last = name.replace("-", "_").rpartition(".")
    groups = [one.rpartition(".")[0] for one in known]
    if group not in groups:
        group = next(iter(difflib.get_close_matches(group, groups, n=1)), "")
    same = [one for one in known if one.rpartition(".")[2] == last]
    prefix = f"{group}." if group else ""
    beside = list(
        dict.fromkeys(one.removeprefix(prefix).split(".")[0] for one in known if one.startswith(prefix))
    )
    near = [prefix + one for one in difflib.get_close_matches(last, beside, n=1)]
    ends = {one.rpartition(".")[2]: one for one in reversed(known)}
    close = same or near or [ends[one] for one in difflib.get_close_matches(last, ends, n=1, cutoff=0.75)]
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return f"; there are: {', '.join(prefix + one for one in beside)}."


def _leaves(tree: Tree, prefix: str = "") -> list[str]:
    """The dotted names that are assigned."""
    names = []
    for name, value in tree.items():
        names += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return names


def _plant(tree: Tree, path: Sequence[str], text: str, assignment: str) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{assignment!r} contradicts another override, which sets {name!r} as a whole.")
    tree[path[-1]] = text


def _replace(config: T, tree: Tree) -> T:
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    owner, hints = type(config).__name__, get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for name, value in tree.items():
        current = getattr(config, name)
        if isinstance(value, dict):
            if not dataclasses.is_dataclass(current):
                raise ConfigError(f"{owner}.{name} is {current!r} and has no fields; set it as {name}=value.")
            changes[name] = _replace(current, value)
        elif dataclasses.is_dataclass(current):
            inner = ", ".join(field.name for field in dataclasses.fields(current))
            raise ConfigError(
                f"{owner}.{name} is a group of fields; set one of them, as {name}.FIELD: {inner}."
            )
        else:
            changes[name] = parse(value, hints[name], f"{owner}.{name}")
    try:
        return dataclasses.replace(config, **changes)
    except ConfigError:
        raise
    except ValueError as error:  # of the model's checks
        raise ConfigError(str(error)) from error


def parse(text: str, annotation: Any, name: str) -> Any:
    """The value that `text` means as `annotation`; ConfigError names value and type when it means none."""
    for choice in _choices(annotation, text):
        try:
            return _parse_one(text, choice)
        except ValueError:
            continue
    raise ConfigError(f"{name}={text!r} is not of type {_spelled(annotation)}.")


def _choices(annotation: Any, text: str) -> Sequence[Any]:
    if get_origin(annotation) not in (Union, types.UnionType):
        return (annotation,)
    choices = get_args(annotation)
    if str in choices and not text.startswith(("[", "(")):
        choices = tuple(choice for choice in choices if get_origin(choice) is not tuple)
    # str last: any text would also do as one.
    return sorted(choices, key=lambda choice: (choice is not types.NoneType, choice is str))


def _parse_one(text: str, annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return _among(text, {str(value): value for value in get_args(annotation)})
    if get_origin(annotation) is tuple:
        return _parse_tuple(text, get_args(annotation))
    if annotation is bool:
        return _among(text.lower(), {"true": True, "false": False})
    if annotation is types.NoneType:
        return _among(text.lower(), {"none": None, "null": None})
    return annotation(text)  # int, float, str


def _parse_tuple(text: str, items: tuple[Any, ...]) -> tuple[Any, ...]:
    # As a line of CSV: quotes around an item keep its commas.
    listed = next(csv.reader([text.strip("()[] ")], skipinitialspace=True), [])
    parts = [part.strip() for part in listed if part.strip()]
    if items[-1] is Ellipsis:
        items = (items[0],) * len(parts)
    return tuple(_parse_one(part, item) for part, item in zip(parts, items, strict=True))


def _among(text: str, values: dict[str, Any]) -> Any:
    if text not in values:
        raise ValueError(text)
    return values[text]


def _spelled(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(_spelled(choice) for choice in get_args(annotation))
    if annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")
