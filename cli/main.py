"""The `cavsync` command: its groups, and how expected errors end."""

import os
from typing import Any

# Idle OpenMP threads that spin starve each other on a busy machine (a 12x slower step was measured with one
# foreign process on two cores). Read when torch loads, so it is set before any command runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from typer.core import TyperGroup

from cavsync.cli import config, demo, doctor
from cavsync.cli.checkpoint import command as checkpoint
from cavsync.cli.console.interrupts import EXIT_INTERRUPTED
from cavsync.cli.console.warning_lines import logged_warnings_shown
from cavsync.cli.data import command as data
from cavsync.cli.evaluate import command as evaluate
from cavsync.cli.inference import embed, localize, search
from cavsync.cli.prepare import command as prepare
from cavsync.cli.study import command as study
from cavsync.cli.train import command as train
from cavsync.errors import DISK_ERRORS, CavsyncError, PeerFailedError, output_error

EXIT_FAILED = 1


class ErrorGroup(TyperGroup):
    """Turns an expected error into one message and exit code 1, Ctrl-C into exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with logged_warnings_shown():
                return super().invoke(ctx)
        except PeerFailedError as error:
            raise typer.Exit(EXIT_FAILED) from error
        except CavsyncError as error:
            typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
            raise typer.Exit(EXIT_FAILED) from error
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            typer.secho(
                f"Error: {output_error(error.filename or 'a file', error)}", fg=typer.colors.RED, err=True
            )
            raise typer.Exit(EXIT_FAILED) from error
        except KeyboardInterrupt as interrupt:
            typer.echo("Interrupted. The same command continues where it stopped.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


app = typer.Typer(
    cls=ErrorGroup,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From raw videos to a trained, evaluated and usable CAV-MAE Sync model.",
)
app.add_typer(prepare.app, name="prepare")
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.command(name="embed")(embed.embed)
app.command(name="search")(search.search)
app.command(name="localize")(localize.localize)
app.add_typer(checkpoint.app, name="checkpoint")
app.add_typer(config.app, name="config")
app.command(name="demo")(demo.demo)
app.add_typer(study.app, name="study")
app.command(name="doctor")(doctor.doctor)
