"""`cavsync eval compare`: reports of one evaluation, compared."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.options import JsonOption, with_options
from cavsync.cli.console.results import command_inputs, results_page

if TYPE_CHECKING:
    from cavsync.train.evaluation.comparison.compare import Comparison


@with_options
def compare(
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C...]", help="Folders of reports that `cavsync eval` wrote, or their report.json."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="HTML page to write.", show_default="compare.html in this folder")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare reports of one evaluation: scores, intervals, differences from the first report, and unequal settings.

    Two retrieval reports of the same clips are compared query by query.
    """
    if len(reports) < 2:
        raise typer.BadParameter("Name two reports or more; the others are compared with the first.")
    from cavsync.train.evaluation.comparison.compare import compare as compare_reports
    from cavsync.train.evaluation.comparison.report import write_comparison

    comparison = compare_reports(reports)
    compared = [str(one.path.resolve()) for one in comparison.reports]
    inputs = command_inputs("eval compare", None, reports=compared)
    out = results_page(out, Path("compare.html"), inputs)
    write_comparison(comparison, out, inputs)
    if as_json:
        typer.echo(json.dumps(comparison.as_dict()))
        return
    _print(comparison)
    typer.echo(f"Report: {out}")


def _print(comparison: "Comparison") -> None:
    from rich.console import Console
    from rich.table import Table

    from cavsync.train.evaluation.comparison.report import (
        difference_of,
        explanation,
        interval_of,
        score_of,
        shown,
    )

    names = [one.name for one in comparison.reports]
    figures = Table(title=f"{comparison.evaluation}: scores with 95 % intervals", title_justify="left")
    figures.add_column("score")
    for name in (*names, *(f"{name} - {names[0]}" for name in names[1:])):
        figures.add_column(name, justify="right")
    for row in comparison.figures:
        scores = [f"{score_of(one, row.unit)}\n{interval_of(one, row.unit)}" for one in row.estimates]
        differences = [
            f"{difference_of(one, row.unit)}\n{one.verdict if one else ''}" for one in row.differences
        ]
        figures.add_row(row.name, *scores, *differences)
    settings = Table(title="unequal settings", title_justify="left")
    for name in ("setting", *names):
        settings.add_column(name, overflow="fold")
    for one in comparison.settings:
        settings.add_row(one.name, *map(shown, one.values))
    console = Console()
    console.print(figures)
    if comparison.settings:
        console.print(settings)
    for line in (explanation(comparison), *comparison.warnings):
        typer.echo(line)
