"""The report of a study: every arm, paired differences with their intervals, learning curves, costs, every seed."""

import math
from typing import Any

from cavsync.train.reporting.coverage import Coverage, Unusable
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import CaptionedImage, Score, Section, Table
from cavsync.train.reporting.record import EvaluationResult, Record, write_evaluation
from cavsync.train.study.analysis import PairedDifference, StudyResults
from cavsync.train.study.folder import FIXED_NAME, StudyFolder
from cavsync.train.study.metrics import METRICS
from cavsync.train.study.plan import PlannedRun
from cavsync.train.study.plots import difference_plot, learning_curves

BUDGET_TEXTS = {
    "equal-steps": "every arm trains as many steps",
    "equal-compute": "every arm trains for as many counted floating-point operations, forward and backward",
}


def write_study_report(folder: StudyFolder) -> Record:
    """Writes report.json and report.html of the runs that are complete; returns the content of the former."""
    return write_evaluation(study_result(StudyResults(folder)), folder.root)


def study_result(results: StudyResults) -> EvaluationResult:
    folder, study = results.folder, results.folder.study
    return EvaluationResult(
        evaluation="study",
        title=study.title,
        lead=f"{study.question} {' '.join(sentences(results))}",
        scores=[score for budget in study.budgets for score in arm_scores(results, budget)],
        sections=[
            *(section for budget in study.budgets for section in _budget_sections(results, budget)),
            _arms_section(results),
            _seeds_section(results),
            _fixed_section(folder),
        ],
        facts=_facts(folder),
        coverage=Coverage(len(folder.runs), tuple(_without_score(results)), kind="runs"),
        items=[run.name for run in results.complete],
        weights=None,
        data=folder.data,
        defined_by=folder.root / FIXED_NAME,
        config=folder.content["study"],
        results=_details(results),
    )


def sentences(results: StudyResults) -> list[str]:
    """What the primary metric says of each arm under each budget, null results included."""
    study = results.folder.study
    label = METRICS[study.primary].label
    return [
        f"{arm.name}, {budget}: {_difference_text(results.difference(arm.name, budget, study.primary), label, study.reference)}."
        for budget in study.budgets
        for arm in study.arms
        if arm.name != study.reference and budget in arm.budgets
    ]


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


def _budget_sections(results: StudyResults, budget: str) -> list[Section]:
    study, text = results.folder.study, BUDGET_TEXTS[budget]
    if budget == "equal-compute":
        text += f", those of {study.compute_of}"
    return [
        Section(
            f"Difference to {study.reference}, {budget}",
            f"Here {text}. Each difference is taken between runs of the same seed, which see the same clips in the same order, "
            "the same frames and, where the arms have as many patches, the same masks; the interval is the 95 % t interval of "
            f"their mean over seeds. {METRICS[study.primary].label} was chosen to decide before the first run. The intervals are "
            "not corrected for their number, so one in twenty leaves out a difference of 0 by chance.",
            tables=[difference_table(results, budget)],
            images=[
                CaptionedImage(
                    difference_plot(results, budget), "mean differences, and the seeds as small dots"
                )
            ],
        ),
        Section(
            f"Learning curves, {budget}",
            "Scores of held-out clips while training: the mean over seeds, and the range of the seeds. The learning rate of a "
            "run follows its own length, so a point within a run is not the end of a shorter run.",
            images=[CaptionedImage(learning_curves(results, budget), text)],
        ),
    ]


def _arms_section(results: StudyResults) -> Section:
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
    text = (
        "Operations are counted on one step; seconds are those of a run without scoring, the mean over its seeds, as far as "
        "its processes ended by themselves."
    )
    return Section("Arms and their cost", text, tables=[Table(header, rows, note=True)])


def _seeds_section(results: StudyResults) -> Section:
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
    return Section("Every seed", "The scores after the last step, in %.", tables=[Table(header, rows)])


def _fixed_section(folder: StudyFolder) -> Section:
    text = (
        f"Question, arms, seeds, budgets and metrics were written to {FIXED_NAME} on {folder.content['created']}, before the "
        "first run. "
    )
    for one in folder.content["additions"]:
        added = [*(f"arm {name}" for name in one["arms"]), *(f"seed {seed}" for seed in one["seeds"])]
        text += f"Added on {one['at']}, when {one['results_before']} runs had ended: {', '.join(added)}. "
    rows = [[METRICS[name].label, METRICS[name].about] for name in folder.study.metrics]
    return Section("What was fixed", text, tables=[Table(["metric", "meaning"], rows, note=True)])


def _without_score(results: StudyResults) -> list[Unusable]:
    folder, complete = results.folder, set(results.complete)
    return [_unusable(folder, run) for run in folder.runs if run not in complete]


def _unusable(folder: StudyFolder, run: PlannedRun) -> Unusable:
    result = folder.result(run)
    if result is not None:
        return Unusable(run.name, "failed", result["reason"])
    begun = (folder.path(run) / "config.json").is_file()
    return Unusable(run.name, "not_complete", "it has begun and not ended" if begun else "it has not begun")


def _details(results: StudyResults) -> dict[str, Any]:
    folder, study = results.folder, results.folder.study
    by_budget = {
        budget: {
            arm.name: {
                "steps": folder.steps(arm.name, budget),
                "cost": results.cost(arm.name, budget),
                "metrics": {
                    metric: {
                        "mean": results.mean(arm.name, budget, metric),
                        "by_seed": results.at_end(arm.name, budget, metric),
                        "difference": difference.estimate,
                        "difference_by_seed": difference.by_seed,
                        "verdict": difference.verdict,
                        "curve": results.curve(arm.name, budget, metric).to_dict("records"),
                    }
                    for metric in study.metrics
                    for difference in [results.difference(arm.name, budget, metric)]
                },
            }
            for arm in study.arms
            if budget in arm.budgets
        }
        for budget in study.budgets
    }
    return {
        "budgets": by_budget,
        "step_gflop": {name: arm["step_gflop"] for name, arm in folder.content["arms"].items()},
        "scored_alike": results.scored_alike,
        "additions": folder.content["additions"],
        "created": folder.content["created"],
    }


def _facts(folder: StudyFolder) -> list[tuple[str, str]]:
    study = folder.study
    return [
        ("preset", study.preset),
        ("dataset", str(folder.data)),
        ("all arms", ", ".join(study.assignments) or "the preset as it is"),
        ("seeds", ", ".join(map(str, study.seeds))),
        ("scored on", f"split {study.split}"),
        *((tool, text) for tool, text in folder.content["versions"].items()),
    ]


def _difference_text(difference: PairedDifference, label: str, reference: str) -> str:
    seeds = f"{len(difference.by_seed)} seed{'' if len(difference.by_seed) == 1 else 's'}"
    if not difference.by_seed:
        return f"{label} was not measured"
    return (
        f"{label} {difference.verdict} beside {reference}, {_interval(difference.estimate)} points, {seeds}"
    )


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
