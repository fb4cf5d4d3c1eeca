"""What results were made from: pages name it in their heads, and only results of the same inputs replace them."""

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from cavsync.errors import OutputError
from cavsync.pipeline.storage.path import sha256
from cavsync.pipeline.storage.writable import require_writable_file

META_NAME = "cavsync-inputs"
META = re.compile(rf'<meta name="{META_NAME}" content="([^"]*)">')
HEAD_BYTES = 2**20
# Inputs that differ, named in a message.
MAX_NAMED = 4


@dataclass(frozen=True)
class ResultInputs:
    """The inputs of a page or of a folder of results, by name, in values that JSON can hold."""

    command: str
    """Such as "eval retrieval"."""
    named: Mapping[str, Any]

    def as_json(self) -> str:
        return json.dumps({"command": self.command, **self.named}, ensure_ascii=False)

    def rows(self) -> list[tuple[str, str]]:
        """Name and text of each, for the head of a page."""
        rows = ((name, _text(value)) for name, value in self.named.items())
        return [("command", f"cavsync {self.command}"), *((name, text) for name, text in rows if text)]

    def same_as(self, other: Mapping[str, Any]) -> bool:
        return not self.differences(other)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What `other`, read from a page, states otherwise."""
        own, theirs = (dict(_flat(one)) for one in (json.loads(self.as_json()), other))
        # A checkpoint is known by its content, wherever it lies.
        names = [name for name in {**theirs, **own} if name != "checkpoint.path"]
        return [
            f"{name} was {_shown(theirs.get(name))}, is now {_shown(own.get(name))}"
            for name in names
            if own.get(name) != theirs.get(name)
        ]


def file_input(path: Path) -> dict[str, Any]:
    """A file or a folder among the inputs; of a file also what it holds."""
    return {"path": str(path.resolve()), "sha256": sha256(path) if path.is_file() else None}


def inputs_in(page: Path) -> dict[str, Any] | None:
    """The inputs that a page names; None where it is no page, or names none."""
    try:
        with page.open("rb") as file:
            found = META.search(file.read(HEAD_BYTES).decode(errors="replace"))
        content = json.loads(html.unescape(found[1])) if found else None
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def require_own_page(page: Path, inputs: ResultInputs, option: str) -> None:
    """Raises OutputError where `page` cannot be written, or is of other inputs and would be lost."""
    way_out = f"give another with {option}"
    require_writable_file(page, way_out)
    if not page.exists():
        return
    other = inputs_in(page)
    if other is None:
        raise OutputError(
            f"{page} is there, does not say what it is of, and would be lost: {way_out}, or remove it."
        )
    if differences := inputs.differences(other):
        more = f"; and {len(differences) - MAX_NAMED} more" if len(differences) > MAX_NAMED else ""
        listed = "; ".join(differences[:MAX_NAMED])
        raise OutputError(
            f"{page} is of other inputs, and would be lost: {listed}{more}. {way_out.capitalize()}, or remove it."
        )


def own_page(page: Path, inputs: ResultInputs, option: str, *, in_folder: bool) -> Path:
    """`page`, or where it is of other inputs the first of `page-2`, `page-3`, ... that is free or of the same.

    With `in_folder` the folder of the page is numbered, else the page. Raises OutputError where it cannot be written.
    """
    for candidate in _numbered(page, in_folder):
        if not candidate.exists() or ((other := inputs_in(candidate)) is not None and inputs.same_as(other)):
            require_own_page(candidate, inputs, option)
            return candidate
    raise AssertionError("numbers do not end")


def _numbered(page: Path, in_folder: bool) -> Iterator[Path]:
    yield page
    for number in count(2):
        if in_folder:
            yield page.parent.with_name(f"{page.parent.name}-{number}") / page.name
        else:
            yield page.with_stem(f"{page.stem}-{number}")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for part, inner in value.items():
            yield from _flat(inner, f"{name}.{part}" if name else str(part))
    elif value is not None:
        yield name, value


def _text(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "" if value is None else _shown(value)
    if "path" in value:
        known = value.get("sha256")
        return f"{value['path']}{f' (sha256 {known[:12]})' if known else ''}"
    parts = ((name, _text(one)) for name, one in value.items())
    return ", ".join(f"{name} {text}" for name, text in parts if text)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return "none" if value is None else str(value)
