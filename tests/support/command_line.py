"""Runs `cavsync` in the test's own process and returns its output as one line."""

from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from cavsync.cli.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def output_text(result: Result) -> str:
    """The output without the boxes and the line breaks that the terminal's width puts in."""
    return " ".join(result.output.replace("│", " ").split())


def prepare(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and output of `cavsync prepare ...`, which must not end with a traceback."""
    result = run("prepare", *arguments)
    assert "Traceback" not in result.output
    return result.exit_code, output_text(result)
