"""Options and arguments that name a place: a path, or a URL such as s3://BUCKET/NAME."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cavsync.pipeline.storage.path import AnyPath

    Where = AnyPath
else:
    # Help shows the name of an option's type.
    Where = type("path or URL", (), {})


def place_option(*names: str, **options: Any) -> Any:
    return typer.Option(*names, parser=_place, **options)


def place_argument(**options: Any) -> Any:
    return typer.Argument(parser=_place, **options)


def _place(text: Any) -> Any:
    from cavsync.pipeline.storage.path import as_path

    return as_path(text)
