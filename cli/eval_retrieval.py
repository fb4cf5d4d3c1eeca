"""`cavsync eval retrieval`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cavsync.cli.eval_options import CheckpointOption, DeviceOption, JsonOption, RootOption
from cavsync.cli.eval_output import print_report


class Aggregation(StrEnum):
    """How the 16 x 16 scores of two clips become one."""

    DIAGONAL_MEAN = "diagonal-mean"
    DIAGONAL_MAX = "diagonal-max"
    MEAN = "mean"
    MAX = "max"


def retrieval(
    checkpoint: CheckpointOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared dataset; by default the one the run was trained on.", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="Role (train, test) or name of a split.")] = "test",
    aggregation: Annotated[
        Aggregation, typer.Option(help="The table's; report.json holds all four.")
    ] = Aggregation.DIAGONAL_MEAN,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; by default retrieval-SPLIT beside the weights.", show_default=False
        ),
    ] = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Find each clip's video by its sound, and its sound by its video, among all clips of a split."""
    from cavsync.cli.progress import counting
    from cavsync.train.device import choose_device
    from cavsync.train.evaluation.score_retrieval import retrieval_rows, score_retrieval, write_retrieval
    from cavsync.train.evaluation.task import Task, newest_run

    task = Task.of(checkpoint or newest_run(root / "runs"), data, split)
    with counting("embedding", "clips", quiet=as_json) as on_clip:
        scores = score_retrieval(task, choose_device(device), on_clip)
    folder = out or task.weights.parent / f"retrieval-{split}"
    record = write_retrieval(scores, aggregation.value, folder)
    title = f"Retrieval among {scores.coverage.sentence}, {aggregation.value}"
    rows = retrieval_rows(scores.by_aggregation[aggregation.value])
    print_report(title, rows, record, folder, as_json=as_json)
