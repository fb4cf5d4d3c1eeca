"""The report of a study: every arm, paired differences with their intervals, learning curves, costs, every seed."""

from typing import Any

from cavsync.train.reporting.coverage import Coverage, Unusable
from cavsync.train.reporting.page import Section, Table
from cavsync.train.reporting.record import EvaluationResult, Record, write_evaluation
from cavsync.train.study.analysis import StudyResults
from cavsync.train.study.folder import FIXED_NAME, StudyFolder
from cavsync.train.study.metrics import METRICS
from cavsync.train.study.plan import PlannedRun
from cavsync.train.study.plots import difference_plots, learning_curves
from cavsync.train.study.tables import (
    arm_scores,
    arms_table,
    difference_table,
    pair_table,
    seeds_table,
    sentences,
)

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
        lead=" ".join([study.question, *sentences(results), *_warning(results)]),
        scores=[score for budget in study.budgets for score in arm_scores(results, budget)],
        sections=[
            *(section for budget in study.budgets for section in _budget_sections(results, budget)),
            Section(
                "Arms and their cost",
                "Operations are those of one step; seconds are those of a run without scoring, the mean over its seeds, as far "
                "as its processes ended by themselves.",
                tables=[arms_table(results)],
            ),
            Section("Every seed", "The scores after the last step, in %.", tables=[seeds_table(results)]),
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


def _warning(results: StudyResults) -> list[str]:
    if results.scored_alike:
        return []
    return ["The arms were scored on different clips, so their differences are not those of the arms alone."]


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
            "not corrected for their number, so one in twenty leaves out a difference of 0 by chance. The plots show mean differences, "
            "their intervals, and the seeds as small dots.",
            tables=[
                difference_table(results, budget),
                *([pair_table(results, budget)] if study.pairs else []),
            ],
            images=difference_plots(results, budget),
        ),
        Section(
            f"Learning curves, {budget}",
            f"Here {text}. Scores of held-out clips while training: the mean over seeds, and the range of the seeds. The learning rate of a "
            "run follows its own length, so a point within a run is not the end of a shorter run.",
            images=learning_curves(results, budget),
        ),
    ]


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
            arm.name: _arm_details(results, arm.name, budget) for arm in study.arms if budget in arm.budgets
        }
        for budget in study.budgets
    }
    return {
        "budgets": by_budget,
        "pairs": [
            _pair_details(results, pair, budget, metric)
            for budget in study.budgets
            for pair in study.pairs
            for metric in study.metrics
        ],
        "step_gflop": {name: arm["step_gflop"] for name, arm in folder.content["arms"].items()},
        "scored_alike": results.scored_alike,
        "additions": folder.content["additions"],
        "created": folder.content["created"],
    }


def _arm_details(results: StudyResults, arm: str, budget: str) -> dict[str, Any]:
    metrics = results.folder.study.metrics
    return {
        "steps": results.folder.steps(arm, budget),
        "cost": results.cost(arm, budget),
        "metrics": {metric: _metric_details(results, arm, budget, metric) for metric in metrics},
    }


def _metric_details(results: StudyResults, arm: str, budget: str, metric: str) -> dict[str, Any]:
    difference = results.difference(arm, budget, metric)
    return {
        "mean": results.mean(arm, budget, metric),
        "by_seed": results.at_end(arm, budget, metric),
        "difference": difference.estimate,
        "difference_by_seed": difference.by_seed,
        "verdict": difference.verdict,
        "curve": results.curve(arm, budget, metric).to_dict("records"),
    }


def _pair_details(results: StudyResults, pair: tuple[str, str], budget: str, metric: str) -> dict[str, Any]:
    arm, other = pair
    found = results.difference(arm, budget, metric, other)
    return {
        "budget": budget,
        "arm": arm,
        "other": other,
        "metric": metric,
        "verdict": found.verdict,
        **vars(found),
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
