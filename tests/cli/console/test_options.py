"""Proves that `with_options` turns the fields of a dataclass into options of a command."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer
from click.testing import Result
from typer.testing import CliRunner

from cavsync.cli.console.options import with_options


@dataclass(frozen=True, kw_only=True)
class Shared:
    size: Annotated[int, typer.Option("--size", min=1, help="Size in pixels.")] = 3
    names: Annotated[list[str], typer.Option("--name")] = field(default_factory=lambda: ["a"])
    crop: Literal["centre", "none"] = "centre"


def run(*arguments: str) -> Result:
    app = typer.Typer()

    @app.command()
    @with_options
    def command(path: str, quiet: bool = False, *, shared: Shared) -> None:
        """Print what was given."""
        typer.echo(f"{path} {quiet} {shared}")

    return CliRunner().invoke(app, arguments)


def test_a_command_gets_its_own_parameters_and_the_shared_object() -> None:
    assert run("p").output == f"p False {Shared()}\n"
    given = run("p", "--quiet", "--size", "5", "--name", "b", "--name", "c", "--crop", "none")
    assert given.output == f"p True {Shared(size=5, names=['b', 'c'], crop='none')}\n"


def test_typer_checks_and_explains_the_shared_options() -> None:
    assert run("p", "--size", "0").exit_code == 2
    assert run("p", "--crop", "left").exit_code == 2
    shown = run("--help").output
    assert "Size in pixels." in shown
    assert "<centre|none>" in shown
    assert "Print what was given." in shown
    assert "--shared" not in shown
