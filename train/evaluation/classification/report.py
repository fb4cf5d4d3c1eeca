"""What `cavsync eval classification` writes: report.json and a page with the classes, the mistakes and some clips."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from cavsync.pipeline.dataset.index_row import index_rows
from cavsync.pipeline.dataset.paths import SUMMARY_NAME
from cavsync.pipeline.dataset.reader import read_clip
from cavsync.train.evaluation.classification.intervals import Interval
from cavsync.train.evaluation.classification.metrics import confusions
from cavsync.train.evaluation.classification.plots import answer_picture, confusion_matrix
from cavsync.train.evaluation.classification.protocol import OFFICIAL_CLIPS, ClassificationScores
from cavsync.train.evaluation.classification.vggsounder_report import vggsounder_record, vggsounder_sections
from cavsync.train.evaluation.published import FINETUNED, PROBED, cells
from cavsync.train.reporting.page import (
    Picture,
    Report,
    Score,
    Section,
    Table,
    unusable_sections,
    write_report,
)
from cavsync.train.reporting.record import Record, make_record, write_record

CLIPS_SHOWN = 8
ANSWERS_SHOWN = 3
CONFUSIONS_SHOWN = 20
MAX_MATRIX_CLASSES = 40


def write_classification(scores: ClassificationScores, out: Path) -> Record:
    """`report.json` and `report.html` in `out`; returns the record."""
    report = Report(
        title="Classification",
        lead=f"{scores.coverage.sentence} of split {scores.clips.config.split!r}, {len(scores.labels)} classes.",
        scores=classification_rows(scores),
        sections=[
            *vggsounder_sections(scores.vggsounder),
            clips_section(scores),
            confusions_section(scores),
            classes_section(scores),
            published_section(scores),
            *unusable_sections(scores.coverage),
        ],
        facts=facts(scores),
    )
    write_report(report, out / "report.html")
    return write_record(as_record(scores), out)


def as_record(scores: ClassificationScores) -> Record:
    data = Path(scores.clips.config.path)
    return make_record(
        "classification",
        scores=classification_rows(scores),
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
                asdict(one) | {"average_precision_interval": interval}
                for one, interval in zip(
                    scores.figures.classes, scores.intervals.average_precisions, strict=True
                )
            ],
            "confusions": confusions(scores.probabilities, scores.truth, scores.labels.names),
            "vggsounder": vggsounder_record(scores.vggsounder),
        },
    )


def classification_rows(scores: ClassificationScores) -> list[Score]:
    """The table: each figure, its chance level and its interval, and what needs no model."""
    figures, ranges, chance = scores.figures, scores.intervals, scores.chance
    defined = f"of {len(scores.labels) - len(figures.without_positives)} classes"
    always = f"no model: always {chance.frequent_name}"
    precision, recall = ranges.mean_average_precision, ranges.top1_macro
    return [
        _score("mAP", figures.mean_average_precision, chance.mean_average_precision, precision, defined),
        _score("AUC", figures.auc, 0.5, ranges.auc, ""),
        _d_prime(scores),
        _score("top-1 of clips", figures.top1, chance.top1, ranges.top1, "micro"),
        _score("top-1 of classes", figures.top1_macro, chance.top1_macro, recall, "macro"),
        _score("top-1 of the most frequent class", chance.frequent_top1, None, None, always),
    ]


def clips_section(scores: ClassificationScores) -> Section:
    dataset, store = scores.task.split.dataset, scores.clips.store
    drawn = np.random.default_rng(scores.task.seed).permutation(len(store))[:CLIPS_SHOWN]
    clips = sorted(drawn.tolist())
    rows = index_rows(dataset.index_table(scores.clips.config.split).take(pa.array(clips, pa.int64())))
    pictures = [
        Picture(
            answer_picture(read_clip(dataset.paths, row), _answers(scores, clip)),
            _caption(scores, clip),
        )
        for clip, row in zip(clips, rows, strict=True)
    ]
    text = "Clips drawn at random, with the likeliest classes; green ones are labels of the clip."
    return Section("What was answered", text, pictures=pictures)


def confusions_section(scores: ClassificationScores) -> Section:
    names = scores.labels.names
    pairs = confusions(scores.probabilities, scores.truth, names)
    sizes = {one.name: one.num_clips for one in scores.figures.classes}
    rows = [
        [f"{right} → {answered}", str(count), f"{count / sizes[right]:.0%}"]
        for right, answered, count in pairs[:CONFUSIONS_SHOWN]
    ]
    text = "The most frequent mistakes: clips of a class whose likeliest class is none of theirs."
    if not rows:
        return Section(
            "What is taken for what", "Nothing: the likeliest class of every clip is one of its own."
        )
    table = Table(["class → taken for", "clips", "of the class"], rows)
    pictures = []
    if len(names) <= MAX_MATRIX_CLASSES:
        matrix = confusion_matrix(scores.probabilities, scores.truth, names)
        pictures = [
            Picture(
                matrix, "Rows: the class of a clip; columns: its likeliest class; shades: share of the row."
            )
        ]
    return Section("What is taken for what", text, pictures=pictures, tables=[table])


def classes_section(scores: ClassificationScores) -> Section:
    scored = zip(scores.figures.classes, scores.intervals.average_precisions, strict=True)
    best_first = sorted(
        ((one, interval) for one, interval in scored if one.num_clips),
        key=lambda pair: -(pair[0].average_precision or 0),
    )
    rows = [
        [
            one.name,
            str(one.num_clips),
            _percent(one.num_clips / scores.figures.num_clips),
            _percent(one.average_precision) + _in_brackets(interval),
            _percent(one.auc),
            _percent(one.recall),
        ]
        for one, interval in best_first
    ]
    without = scores.figures.without_positives
    text = "In %, the best first; the chance level of AP is the share of clips that have the class."
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
    own = ["this run", *([score, score, ""] if multi else ["", "", score]), source]
    frozen, tuned = ([own], []) if scores.is_frozen else ([], [own])
    text = (
        f"Published figures are of AudioSet's evaluation list ({OFFICIAL_CLIPS['audioset']:,} clips) or of VGGSound's test list "
        f"({OFFICIAL_CLIPS['vggsound']:,}), of which everyone has lost other videos; this report is of {scores.coverage.sentence}. On AudioSet "
        "compare within the column of the clips that were trained on. A frozen encoder does not compare with one that was "
        "fine-tuned. In the development code of the Sync paper parts of the probe stay untrained; ours trains all of it."
    )
    tables = [
        Table(["fine-tuned", *header], [*tuned, *cells(FINETUNED[modality])], note=True),
        Table(["frozen under an attention probe", *header], [*frozen, *cells(PROBED[modality])], note=True),
    ]
    return Section("Beside published figures", text, tables=tables)


def facts(scores: ClassificationScores) -> list[tuple[str, str]]:
    classifier, data = scores.model.classifier, scores.clips.config
    frames = sorted({scores.clips.store.num_frames(clip) for clip in range(len(scores.clips))})
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
        ("alignment", data.alignment),
    ]


def _caption(scores: ClassificationScores, clip: int) -> str:
    own = ", ".join(scores.labels.names[place] for place in np.flatnonzero(scores.truth[clip]))
    return f"{scores.clips.store.keys[clip]}: {own}"


def _answers(scores: ClassificationScores, clip: int) -> list[tuple[str, float, bool]]:
    """The likeliest classes of a clip: name, probability, whether it is right."""
    row = scores.probabilities[clip]
    best = np.argsort(-row, kind="stable")[:ANSWERS_SHOWN]
    return [
        (scores.labels.names[place], float(row[place]), bool(scores.truth[clip, place])) for place in best
    ]


def _d_prime(scores: ClassificationScores) -> Score:
    value, interval = scores.figures.d_prime, scores.intervals.d_prime
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    digits = "" if math.isnan(value) else f"{value:.3f}"
    return Score("d'", value, 0.0, low, high, digits, unit="")


def _score(name: str, share: float, chance: float | None, interval: Interval | None, note: str) -> Score:
    low, high = (None, None) if interval is None else (100 * interval.low, 100 * interval.high)
    return Score(name, 100 * share, None if chance is None else 100 * chance, low, high, note)


def _percent(share: float | None) -> str:
    return "" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def _in_brackets(interval: Interval | None) -> str:
    return "" if interval is None else f" ({_percent(interval.low)} to {_percent(interval.high)})"
