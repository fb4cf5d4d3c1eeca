"""`cavsync eval`: scores of a trained model; a module for each protocol."""

import typer

from cavsync.cli.evaluate import classification, compare, localization, retrieval, segmentation, synchrony

app = typer.Typer(no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Evaluate a trained model: scores with intervals, and a report."""


app.command()(retrieval.retrieval)
app.command()(classification.classification)
app.command()(segmentation.segmentation)
app.command()(localization.localization)
app.command()(synchrony.synchrony)
app.command()(compare.compare)
