"""The end of every evaluation: its report is written, tracked and printed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cavsync.cli.console.score_table import print_report

if TYPE_CHECKING:
    from cavsync.train.reporting.inputs import ResultInputs
    from cavsync.train.reporting.record import EvaluationResult


def publish(
    result: "EvaluationResult",
    folder: Path,
    inputs: "ResultInputs",
    title: str,
    *,
    as_json: bool,
    notes: Sequence[str] = (),
) -> None:
    """Writes the report into `folder`, logs its figures to the trackers of the scored run, and prints them below `title`."""
    from cavsync.train.evaluation.tracked import track_report
    from cavsync.train.reporting.record import write_evaluation

    record = write_evaluation(result, folder, inputs)
    track_report(record, folder.name)
    print_report(title, result.scores, record, folder, as_json=as_json, notes=notes)
