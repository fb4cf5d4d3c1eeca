"""What the commands of `cavsync study` print: the shipped studies, a plan, the runs as they end, the report."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from cavsync.train.choices import DeviceChoice

if TYPE_CHECKING:
    from cavsync.cli.console.progress import NotedProgress
    from cavsync.train.study.folder import StudyFolder
    from cavsync.train.study.plan import PlannedRun
    from cavsync.train.study.runs import Outcome


def print_shipped_studies() -> None:
    """A row a study: its name, question and arms."""
    from cavsync.train.study.study_file import read_study, shipped_studies

    table = Table()
    for title in ("study", "question", "arms"):
        table.add_column(title)
    for name in shipped_studies():
        study = read_study(name)
        table.add_row(name, study.question, ", ".join(arm.name for arm in study.arms))
    Console().print(table)


def print_plan(folder: "StudyFolder", runs: "Sequence[PlannedRun]", device: DeviceChoice) -> None:
    """A row an arm and length, with the time of a run as a few steps of it take on this machine."""
    from cavsync.cli.train.run_texts import duration
    from cavsync.train.engine.device import choose_device
    from cavsync.train.pretrain.estimate import estimate
    from cavsync.train.study.runs import outcome_of

    table = Table(title=f"{folder.study.title}: {len(runs)} runs", title_justify="left")
    for title in ("arm", "steps", "GFLOP a step", "time of a run", "seeds", "ended"):
        table.add_column(title)
    for arm, num_steps in dict.fromkeys((one.arm, one.num_steps) for one in runs):
        own = [one for one in runs if (one.arm, one.num_steps) == (arm, num_steps)]
        ended = sum(outcome_of(folder, one) is not None for one in own)
        gflop = f"{folder.content['arms'][arm]['step_gflop']:,.2f}"
        seconds = estimate(folder.config(own[0]), choose_device(device)).seconds
        seeds = ", ".join(str(one.seed) for one in own)
        table.add_row(arm, f"{num_steps:,}", gflop, f"about {duration(seconds)}", seeds, str(ended))
    Console().print(table)


def run_line(folder: "StudyFolder", one: "PlannedRun", outcome: "Outcome") -> str:
    """How a run ended, with its last scores."""
    from cavsync.train.engine.run_folder import read_lines
    from cavsync.train.study.folder import SCORES_NAME
    from cavsync.train.study.metrics import METRICS

    if outcome != "complete":
        return f"{one.name}: {outcome}"
    scores = read_lines(folder.path(one) / SCORES_NAME)["scores"].iloc[-1]
    values = [
        f"{METRICS[name].label} {'-' if score['value'] is None else format(score['value'], '.1f')}"
        for name, score in scores.items()
    ]
    return f"{one.name}: {', '.join(values)}"


class StepNote:
    """A callback that shows the step of a run below the bar of runs."""

    def __init__(self, one: "PlannedRun", progress: "NotedProgress", task: Any) -> None:
        self._run, self._progress, self._task = one, progress, task

    def on_step_end(self, metrics: Any, model: Any, batch: Any) -> None:
        note = f"{self._run.arm}, seed {self._run.seed}: step {metrics.step:,} of {self._run.num_steps:,}"
        self._progress.update(self._task, note=note)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def print_report(folder: "StudyFolder", as_json: bool) -> None:
    """Writes the report of the complete runs; prints report.json, or the differences of each budget and what they say."""
    from cavsync.train.study.analysis import StudyResults
    from cavsync.train.study.report import write_study_report
    from cavsync.train.study.tables import difference_table, sentences

    record = write_study_report(folder)
    if as_json:
        typer.echo(json.dumps(record))
        return
    results = StudyResults(folder)
    for budget in folder.study.budgets:
        content = difference_table(results, budget)
        table = Table(title=f"{folder.study.title}, {budget}", title_justify="left")
        for title in content.header:
            table.add_column(title)
        for row in content.rows:
            table.add_row(*row)
        Console().print(table)
    for sentence in sentences(results):
        typer.echo(sentence)
    typer.echo(
        f"{len(results.complete)} of {len(folder.runs)} runs are complete. Report: {folder.root / 'report.html'}"
    )
