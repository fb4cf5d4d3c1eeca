"""The tables of a study's report, and the sentences on its primary metric."""

import math

from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import Score, Table
from cavsync.train.study.analysis import PairedDifference, StudyResults
from cavsync.train.study.metrics import METRICS


def sentences(results: StudyResults) -> list[str]:
    """What the primary metric says of each arm and of each pair, null results included.

    Under equal-compute only where an arm has other runs than under equal-steps.
    """
    study = results.folder.study
    compared = [(arm.name, study.reference) for arm in study.arms if arm.name != study.reference]
    said: dict[tuple[str, str, int | None, int | None], str] = {}
    for budget in study.budgets:
        for arm, other in (*compared, *study.pairs):
            steps = [results.folder.steps(name, budget) for name in (arm, other)]
            if None in steps or (arm, other, *steps) in said:
                continue
            text = _difference_text(results.difference(arm, budget, study.primary, other), other)
            said[arm, other, steps[0], steps[1]] = f"{arm}, {budget}: {METRICS[study.primary].label} {text}."
    return [*said.values()]


def arm_scores(results: StudyResults, budget: str) -> list[Score]:
    """A row an arm and metric: the mean over seeds."""
    study = results.folder.study
    return [
        Score(
            f"{budget}, {arm.name}: {METRICS[metric].label}",
            results.mean(arm.name, budget, metric),
            _seed_count(results, arm.name, budget, metric),
        )
        for arm in study.arms
        if budget in arm.budgets
        for metric in study.metrics
    ]


def difference_table(results: StudyResults, budget: str) -> Table:
    """A row a metric and arm: the mean, and the paired difference to the reference with its interval."""
    study = results.folder.study
    rows = []
    for metric in study.metrics:
        for arm in (arm for arm in study.arms if budget in arm.budgets):
            difference = results.difference(arm.name, budget, metric)
            compared = (
                ("reference", "")
                if arm.name == study.reference
                else (_interval(difference.estimate), difference.verdict)
            )
            mean = _shown(results.mean(arm.name, budget, metric))
            rows.append([METRICS[metric].label, arm.name, mean, *compared])
    return Table(["metric", "arm", "mean, %", "difference (95 %)", ""], rows, note=True)


def pair_table(results: StudyResults, budget: str) -> Table:
    """A row a metric and pair of arms that the study names: the paired difference with its interval."""
    study = results.folder.study
    rows = []
    for metric in study.metrics:
        for arm, other in study.pairs:
            if results.folder.steps(arm, budget) is None or results.folder.steps(other, budget) is None:
                continue
            found = results.difference(arm, budget, metric, other)
            rows.append(
                [METRICS[metric].label, f"{arm} less {other}", _interval(found.estimate), found.verdict]
            )
    return Table(["metric", "arms", "difference (95 %)", ""], rows, note=True)


def arms_table(results: StudyResults) -> Table:
    """A row an arm and budget: steps, operations, seconds, what it is."""
    folder, study = results.folder, results.folder.study
    rows = []
    for arm in study.arms:
        for budget in arm.budgets:
            cost = results.cost(arm.name, budget)
            rows.append(
                [
                    arm.name,
                    budget,
                    f"{folder.steps(arm.name, budget):,}",
                    f"{folder.content['arms'][arm.name]['step_gflop']:,.2f}",
                    _seconds(cost["cpu_s"]),
                    _seconds(cost["wall_s"]),
                    "; ".join(filter(None, (arm.about, ", ".join(arm.assignments)))),
                ]
            )
    header = ["arm", "budget", "steps", "GFLOP a step", "CPU s", "wall s", "what it is"]
    return Table(header, rows, note=True)


def seeds_table(results: StudyResults) -> Table:
    """A row an arm, budget and seed: the scores after the last step."""
    study = results.folder.study
    rows = [
        [
            f"{arm.name}, {budget}",
            str(seed),
            *(_value(results.at_end(arm.name, budget, metric).get(seed)) for metric in study.metrics),
        ]
        for budget in study.budgets
        for arm in study.arms
        if budget in arm.budgets
        for seed in study.seeds
    ]
    header = ["arm", "seed", *(METRICS[metric].label for metric in study.metrics)]
    return Table(header, rows)


def _difference_text(difference: PairedDifference, other: str) -> str:
    seeds = f"{len(difference.by_seed)} seed{'' if len(difference.by_seed) == 1 else 's'}"
    if not difference.by_seed:
        return "has no value"
    return f"{difference.verdict} beside {other}, {_interval(difference.estimate)} points, {seeds}"


def _seed_count(results: StudyResults, arm: str, budget: str, metric: str) -> str:
    count = len(results.at_end(arm, budget, metric))
    return f"{count} seed{'' if count == 1 else 's'}"


def _interval(estimate: Estimate) -> str:
    """ "+1.2 (-0.3 to 2.7)"."""
    if math.isnan(estimate.value):
        return "-"
    span = "" if estimate.low is None else f" ({estimate.low:+.1f} to {estimate.high:+.1f})"
    return f"{estimate.value:+.1f}{span}"


def _shown(estimate: Estimate) -> str:
    return _value(None if math.isnan(estimate.value) else estimate.value)


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"
