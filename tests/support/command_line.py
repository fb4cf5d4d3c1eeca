"""Runs `cavsync` in the test's own process and returns its output as one line."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import typer
from click.testing import CliRunner, Result
from typer.main import get_command

from cavsync.cli.main import app as cavsync

# Typer builds all commands anew for each run, which takes longer than most of them.
built = cache(get_command)


def run(*arguments: object, app: typer.Typer = cavsync, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(built(app), [str(one) for one in arguments], env=env)


def output_text(result: Result) -> str:
    """The output without the boxes and the line breaks that the terminal's width puts in."""
    return " ".join(result.output.replace("│", " ").split())


def prepare(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and output of `cavsync prepare ...`, which must not end with a traceback."""
    result = run("prepare", *arguments)
    assert "Traceback" not in result.output
    return result.exit_code, output_text(result)
