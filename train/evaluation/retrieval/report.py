"""The report on retrieval: figures, ranks, every aggregation, contamination and example queries."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cavsync.pipeline.dataset.paths import SUMMARY_NAME
from cavsync.train.evaluation.retrieval.contamination import CopiesOfTraining
from cavsync.train.evaluation.retrieval.examples import example_sections
from cavsync.train.evaluation.retrieval.metrics import Directions, Retrieval
from cavsync.train.evaluation.retrieval.plots import rank_bars, recall_curves
from cavsync.train.evaluation.retrieval.protocol import RetrievalScores, write_ranks
from cavsync.train.evaluation.retrieval.published_recalls import VGGSOUND, published_section
from cavsync.train.evaluation.retrieval.tables import recall_table, retrieval_rows
from cavsync.train.reporting.inputs import ResultInputs
from cavsync.train.reporting.page import Chart, Section, Table
from cavsync.train.reporting.record import EvaluationResult, Record, write_evaluation


def write_retrieval(scores: RetrievalScores, out: Path, inputs: ResultInputs | None = None) -> Record:
    """`ranks.parquet`, `report.html` and `report.json` in `out`; returns the record."""
    write_ranks(scores, out)
    return write_evaluation(retrieval_result(scores), out, inputs)


def retrieval_result(scores: RetrievalScores) -> EvaluationResult:
    source, primary = scores.source, scores.config.primary_aggregation
    data, defined_by = _data(scores)
    return EvaluationResult(
        evaluation="retrieval",
        title="Zero-shot retrieval",
        lead=f"{gallery_name(scores)}: {scores.coverage.sentence}. Scores by {primary}.",
        scores=retrieval_rows(scores.primary),
        sections=[
            ranks_section(scores.primary),
            aggregations_section(scores),
            contamination_section(scores),
            published_section(scores),
            *example_sections(scores),
        ],
        facts=facts(scores),
        coverage=scores.coverage,
        items=scores.embeddings.keys,
        weights=source.task.weights if source.task else None,
        data=data,
        defined_by=defined_by,
        config={
            "aggregation": primary,
            "gallery": _gallery(scores),
            **(asdict(source.task.data) if source.task else {}),
        },
        results={
            "num_pairs_per_clip": scores.embeddings.audio.shape[1],
            "width": scores.embeddings.audio.shape[2],
            "about_embeddings": source.file.about if source.file else None,
            "aggregations": {name: _without_ranks(one) for name, one in scores.by_aggregation.items()},
            "contamination": _contamination(scores),
        },
    )


def ranks_section(result: Retrieval) -> Section:
    text = (
        f"{result.num_clips:,} queries a direction, each among all {result.num_clips:,} clips. Clips that score the same "
        "as the right one count as better."
    )
    charts = [
        Chart(recall_curves(result), "Queries whose right answer is among the first k."),
        Chart(rank_bars(result), "Ranks of the right answers."),
    ]
    return Section("Ranks of the right answers", text, charts=charts)


def aggregations_section(scores: RetrievalScores) -> Section:
    """Every aggregation, from the one set of embeddings."""
    num_pairs = scores.embeddings.audio.shape[1]
    text = (
        f"How the {num_pairs} x {num_pairs} cosines of two clips become one score: the mean or the greatest of the pairs of "
        "equal number (diagonal), or of all. CAV-MAE Sync publishes diagonal-mean. R@k in %."
    )
    tables = [recall_table("own clip", {name: one.own_clip for name, one in scores.by_aggregation.items()})]
    same_class: dict[str, Directions] = {
        name: one.same_class for name, one in scores.by_aggregation.items() if one.same_class
    }
    if same_class:
        text += (
            " Below, any clip that shares a label with the query counts as right: what a user who looks for a barking dog "
            "would accept."
        )
        tables.append(recall_table("same class", same_class))
    return Section("Every aggregation", text, tables=tables)


def contamination_section(scores: RetrievalScores) -> Section:
    found, num_clips = scores.contamination, len(scores.embeddings.keys)
    title = "Clips that were trained on"
    if not found.checked:
        return Section(title, f"Not checked: {found.unknown}. Name the training dataset with --trained-on.")
    where = " and ".join(found.datasets)
    caveat = f" Not searched: {found.unknown}." if found.unknown else ""
    by_content = copies_text(found.copies)
    if not found.trained:
        return Section(
            title, f"None of the {num_clips:,} clips comes from a video of {where}.{by_content}{caveat}"
        )
    num_by_id = len(found.trained) - (len(found.copies.both) if found.copies else 0)
    text = (
        f"{num_by_id:,} of the {num_clips:,} clips come from videos that were trained on ({where}).{by_content} The score is not that "
        f"of a model that never saw them.{caveat} report.json names them."
    )
    return Section(title, text, tables=_contamination_tables(scores))


def copies_text(copies: CopiesOfTraining | None) -> str:
    """What the contents say, as sentences after the one about ids."""
    if copies is None:
        return " Copies under other ids were not looked for: `cavsync data duplicates` finds them."
    text = f" Of the others, {len(copies.both):,} are copies of training clips by their audio and frames ({copies.path})"
    partly = {"audio": len(copies.audio), "frames": len(copies.frames)}
    alike = [f"{count:,} share only the {kind} of one" for kind, count in partly.items() if count]
    return f"{text}; {', '.join(alike)}, and count as not trained on." if alike else f"{text}."


def _contamination_tables(scores: RetrievalScores) -> list[Table]:
    found, split = scores.contamination, scores.without_trained
    if split is None:
        return []
    rows = {
        f"all {len(scores.embeddings.keys):,} queries": scores.primary.own_clip,
        f"{len(found.trained):,} trained on, among all": split.trained_queries,
        f"{split.num_clean:,} not trained on, among all": split.clean_queries,
        f"{split.num_clean:,} not trained on, among themselves": split.clean_gallery,
    }
    return [recall_table("queries", rows)]


def facts(scores: RetrievalScores) -> list[tuple[str, str]]:
    source = scores.source
    rows: list[tuple[str, str]] = []
    if source.task:
        rows += [("weights", str(source.task.weights)), ("alignment", source.task.data.frame_alignment)]
    if source.file:
        rows += [("embeddings", str(source.file.path))]
        rows += [(f"embeddings: {name}", str(value)) for name, value in source.file.about.items()]
    return [
        *rows,
        ("data", f"{source.dataset.paths.root}, split {source.split}" if source.dataset else "none"),
        ("gallery", gallery_name(scores)),
        ("clips", scores.coverage.sentence),
        ("pairs a clip", str(scores.embeddings.audio.shape[1])),
        ("aggregation", scores.config.primary_aggregation),
    ]


def gallery_name(scores: RetrievalScores) -> str:
    if scores.gallery is None:
        return f"split {scores.source.split}" if scores.source.task else f"{_data(scores)[0].name}"
    published = scores.gallery.ids_sha256 == VGGSOUND.ids_sha256
    return f"{scores.gallery.path.name}{f' ({VGGSOUND.name})' if published else ''}"


def _data(scores: RetrievalScores) -> tuple[Path, Path]:
    """What was scored, and the file that says what it consists of."""
    if scores.source.file is not None:
        return scores.source.file.path, scores.source.file.path
    data = Path(scores.task.data.one_path)
    return data, data / SUMMARY_NAME


def _contamination(scores: RetrievalScores) -> Mapping[str, Any]:
    found = scores.contamination
    return {
        "checked": found.checked,
        "training_datasets": found.datasets,
        "unknown": found.unknown,
        "num_trained": len(found.trained),
        "trained": found.trained,
        "copies": found.copies and asdict(found.copies),
        "without": scores.without_trained,
    }


def _gallery(scores: RetrievalScores) -> Mapping[str, Any] | None:
    if scores.gallery is None:
        return None
    return {"name": gallery_name(scores), "ids_sha256": scores.gallery.ids_sha256}


def _without_ranks(result: Retrieval) -> Mapping[str, Any]:
    """Ranks are in ranks.parquet."""
    return {name: value for name, value in vars(result).items() if name != "ranking"}
