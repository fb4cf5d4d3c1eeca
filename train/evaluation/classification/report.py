"""The report on classification: figures, sample clips with their answers, confusions, classes and published figures."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from cavsync.pipeline.dataset.index_row import index_rows
from cavsync.pipeline.dataset.paths import SUMMARY_NAME
from cavsync.pipeline.dataset.reader import read_clip
from cavsync.train.evaluation.classification.metrics import confusions
from cavsync.train.evaluation.classification.plots import answer_plot, confusion_matrix
from cavsync.train.evaluation.classification.protocol import OFFICIAL_CLIPS, ClassificationScores
from cavsync.train.evaluation.classification.vggsounder_report import vggsounder_record, vggsounder_sections
from cavsync.train.evaluation.published import FINETUNED, PROBED, cells
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import CaptionedImage, Score, Section, Table
from cavsync.train.reporting.record import EvaluationResult

CLIPS_SHOWN = 8
ANSWERS_SHOWN = 3
CONFUSIONS_SHOWN = 20
MAX_MATRIX_CLASSES = 40


def classification_result(scores: ClassificationScores) -> EvaluationResult:
    data = Path(scores.clips.config.one_path)
    return EvaluationResult(
        evaluation="classification",
        title="Classification",
        lead=f"Split {scores.clips.config.split!r}, {len(scores.labels)} classes: {scores.coverage.sentence}.",
        scores=classification_rows(scores),
        sections=[
            *vggsounder_sections(scores.vggsounder),
            clips_section(scores),
            confusions_section(scores),
            classes_section(scores),
            published_section(scores),
        ],
        facts=facts(scores),
        coverage=scores.coverage,
        items=scores.clips.store.keys,
        weights=scores.task.split.weights,
        data=data,
        defined_by=data / SUMMARY_NAME,
        config={
            "classifier": scores.model.classifier,
            "answers": scores.answers,
            "labels": scores.labels.ids,
            "seed": scores.task.seed,
            **asdict(scores.clips.config),
        },
        results={
            "without_positives": scores.figures.without_positives,
            "classes": [
                asdict(one)
                | {"average_precision_interval": estimate and {"low": estimate.low, "high": estimate.high}}
                for one, estimate in zip(
                    scores.figures.classes, scores.estimates.average_precisions, strict=True
                )
            ],
            "confusions": confusions(scores.probabilities, scores.truth, scores.labels.names),
            "vggsounder": vggsounder_record(scores.vggsounder),
        },
    )


def classification_rows(scores: ClassificationScores) -> list[Score]:
    """The table: each figure with its chance level, and the classifier that always answers one class."""
    estimates, chance = scores.estimates, scores.chance
    defined = f"of {len(scores.labels) - len(scores.figures.without_positives)} classes"
    d_prime, always = estimates.d_prime.value, f"no model: always {chance.frequent_name}"
    return [
        Score("mAP", estimates.mean_average_precision.in_percent(), defined),
        Score("AUC", estimates.auc.in_percent()),
        Score("d'", estimates.d_prime, "" if math.isnan(d_prime) else f"{d_prime:.3f}"),
        Score("top-1 of clips", estimates.top1.in_percent(), "micro"),
        Score("top-1 of classes", estimates.top1_macro.in_percent(), "macro"),
        Score("top-1 of the most frequent class", Estimate(100 * chance.frequent_top1), always),
    ]


def clips_section(scores: ClassificationScores) -> Section:
    dataset, store = scores.task.split.dataset, scores.clips.store
    drawn = np.random.default_rng(scores.task.seed).permutation(len(store))[:CLIPS_SHOWN]
    clips = sorted(drawn.tolist())
    rows = index_rows(dataset.index_table(scores.clips.config.split).take(pa.array(clips, pa.int64())))
    plots = [
        CaptionedImage(
            answer_plot(read_clip(dataset.paths, row), _answers(scores, clip)),
            _caption(scores, clip),
        )
        for clip, row in zip(clips, rows, strict=True)
    ]
    text = "Clips drawn at random, with the likeliest classes; green ones are labels of the clip."
    return Section("What was answered", text, images=plots)


def confusions_section(scores: ClassificationScores) -> Section:
    names, title = scores.labels.names, "Confusions"
    pairs = confusions(scores.probabilities, scores.truth, names)
    if not pairs:
        return Section(title, "None: the likeliest class of every clip is one of its labels.")
    sizes = {one.name: one.num_clips for one in scores.figures.classes}
    rows = [
        [f"{right} → {predicted}", str(count), f"{count / sizes[right]:.0%}"]
        for right, predicted, count in pairs[:CONFUSIONS_SHOWN]
    ]
    plots = []
    if len(names) <= MAX_MATRIX_CLASSES:
        matrix = confusion_matrix(scores.probabilities, scores.truth, names)
        caption = "Rows: the class of a clip; columns: its likeliest class; shades: fraction of the row."
        plots = [CaptionedImage(matrix, caption)]
    text = "The most frequent mistakes: clips whose likeliest class is not one of their labels."
    table = Table(["class → likeliest class", "clips", "of the class"], rows)
    return Section(title, text, images=plots, tables=[table])


def classes_section(scores: ClassificationScores) -> Section:
    scored = zip(scores.figures.classes, scores.estimates.average_precisions, strict=True)
    best_first = sorted(
        ((one, estimate) for one, estimate in scored if estimate), key=lambda pair: -pair[1].value
    )
    rows = [
        [
            one.name,
            str(one.num_clips),
            _percent(estimate.chance),
            _percent(estimate.value) + _in_brackets(estimate),
            _percent(one.auc),
            _percent(one.recall),
        ]
        for one, estimate in best_first
    ]
    without = scores.figures.without_positives
    text = "In %, the best first; the chance level of AP is the fraction of clips that have the class."
    if without:
        text += f" No clip has these {len(without)}, which are in no mean: {', '.join(without)}."
    header = ["class", "clips", "chance AP", "AP (95 %)", "AUC", "top-1 recall"]
    return Section("By class", text, tables=[Table(header, rows)])


def published_section(scores: ClassificationScores) -> Section:
    figures, modality = scores.figures, scores.model.classifier.modality
    header = ["AS-20K mAP", "AS-2M mAP", "VGGSound top-1", "source"]
    multi = scores.answers == "multi-label"
    score = _percent(figures.mean_average_precision if multi else figures.top1)
    source = "computed here" if scores.is_official_list else "computed here on other clips: not comparable"
    head = scores.model.classifier.head
    own = [f"this run, {head} head", *([score, score, ""] if multi else ["", "", score]), source]
    frozen = scores.is_frozen
    text = (
        f"Published figures are of AudioSet's evaluation list ({OFFICIAL_CLIPS['audioset']:,} clips) or of VGGSound's test list "
        f"({OFFICIAL_CLIPS['vggsound']:,}), of which everyone has lost other videos; in this report, {scores.coverage.sentence}. On AudioSet "
        "compare within the column of the clips that were trained on. A frozen encoder does not compare with one that was "
        "fine-tuned, nor under a linear head with one under an attention probe, which is two transformer blocks. In the "
        "development code of the Sync paper parts of the probe stay untrained; ours trains all of it."
    )
    published = [
        ("fine-tuned", FINETUNED[modality], not frozen),
        ("frozen under an attention probe", PROBED[modality], frozen and head == "attention"),
    ]
    tables = [
        Table([title, *header], [*([own] if is_own else []), *cells(rows)], note=True)
        for title, rows, is_own in published
    ]
    if frozen and head != "attention":
        tables.insert(
            0, Table([f"frozen under a {head} head: nothing is published", *header], [own], note=True)
        )
    return Section("Beside published figures", text, tables=tables)


def facts(scores: ClassificationScores) -> list[tuple[str, str]]:
    classifier, data = scores.model.classifier, scores.clips.config
    frames = scores.clips.store.frame_counts()
    per = (
        "one answer for all of them" if classifier.head == "attention" else "probabilities averaged over them"
    )
    return [
        ("weights", str(scores.task.split.weights)),
        ("classifier", f"{classifier.head} head on {classifier.modality}, features {classifier.features}"),
        ("classes", str(scores.task.label_list or "as stored with the weights")),
        ("probabilities", "softmax" if scores.answers == "single-label" else "a sigmoid for each class"),
        ("dataset", f"{data.path}, split {data.split}"),
        ("clips", scores.coverage.sentence),
        ("frames a clip", f"{', '.join(map(str, frames))}: {per}"),
        ("alignment", data.frame_alignment),
    ]


def _caption(scores: ClassificationScores, clip: int) -> str:
    labels = ", ".join(scores.labels.names[column] for column in np.flatnonzero(scores.truth[clip]))
    return f"{scores.clips.store.keys[clip]}: {labels}"


def _answers(scores: ClassificationScores, clip: int) -> list[tuple[str, float, bool]]:
    """The likeliest classes of a clip: name, probability, whether it is right."""
    row = scores.probabilities[clip]
    best = np.argsort(-row, kind="stable")[:ANSWERS_SHOWN]
    return [
        (scores.labels.names[column], float(row[column]), bool(scores.truth[clip, column])) for column in best
    ]


def _percent(fraction: float | None) -> str:
    return "" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.1f}"


def _in_brackets(estimate: Estimate) -> str:
    return "" if estimate.low is None else f" ({_percent(estimate.low)} to {_percent(estimate.high)})"
