"""Warnings on stderr, the commands' own and those that the library logs, in one form."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer


def warn(text: str) -> None:
    typer.secho(f"Warning: {text}", fg=typer.colors.YELLOW, err=True)


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextmanager
def logged_warnings_shown() -> Iterator[None]:
    """Inside the block, each warning that the library logs is shown as those of the commands."""
    handler, logger = _Warnings(logging.WARNING), logging.getLogger("cavsync")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
