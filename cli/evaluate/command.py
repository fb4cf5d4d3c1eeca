"""`cavsync eval`: scores of a trained model; one module a family of evaluations."""

import typer

from cavsync.cli.evaluate import classification, compare, maps, retrieval, synchrony

app = typer.Typer(no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """A trained model to scores and a report."""


app.command()(retrieval.retrieval)
app.command()(classification.classification)
app.command()(maps.segmentation)
app.command()(maps.localization)
app.command()(synchrony.synchrony)
app.command()(compare.compare)
