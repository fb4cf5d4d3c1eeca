"""`cavsync eval`: scores of a trained model; one module a family of evaluations."""

import typer

from cavsync.cli import eval_classification, eval_compare, eval_maps, eval_retrieval, eval_synchrony

app = typer.Typer(no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """A trained model to scores and a report."""


app.command()(eval_retrieval.retrieval)
app.command()(eval_classification.classification)
app.command()(eval_maps.segmentation)
app.command()(eval_maps.localization)
app.command()(eval_synchrony.synchrony)
app.command()(eval_compare.compare)
