"""Options and arguments that take a path or a URL such as s3://BUCKET/NAME."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cavsync.pipeline.storage.path import AnyPath

    PathOrUrl = AnyPath
else:
    # Help shows the name of an option's type.
    PathOrUrl = type("path or URL", (), {})


def path_option(*names: str, **options: Any) -> Any:
    return typer.Option(*names, parser=_as_path, **options)


def path_argument(**options: Any) -> Any:
    return typer.Argument(parser=_as_path, **options)


def weights_option(**options: Any) -> Any:
    return typer.Option(parser=_as_weights, **options)


def weights_argument(**options: Any) -> Any:
    return typer.Argument(parser=_as_weights, **options)


def _as_weights(text: Any) -> Any:
    """As other paths; the hub's client fetches what lies at hf://."""
    return Path(text) if str(text).startswith("hf://") else _as_path(text)


def _as_path(text: Any) -> Any:
    from cavsync.pipeline.storage.path import as_path

    return as_path(text)


def results_beside(folder: "AnyPath", part: str) -> Path:
    """Where results about a dataset go: into its folder, or for one at a URL into a folder of its name here."""
    return folder / part if isinstance(folder, Path) else Path(folder.name) / part


def absolute(folder: "AnyPath") -> str:
    """The text by which results name a dataset."""
    return str(folder.resolve() if isinstance(folder, Path) else folder)


def printable(name: str) -> str:
    """The name of a file for a line of text: quoted where it has a newline or another control character."""
    return name if name.isprintable() else repr(name)
