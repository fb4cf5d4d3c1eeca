"""What `cavsync eval retrieval` writes: report.json, ranks.parquet, and a page with clips to look at and listen to."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.paths import SUMMARY_NAME
from cavsync.train.evaluation.retrieval.examples import example_sections
from cavsync.train.evaluation.retrieval.protocol import RetrievalScores, write_ranks
from cavsync.train.evaluation.retrieval.recall import Retrieval
from cavsync.train.evaluation.retrieval.tables import (
    HEARD,
    R_AT,
    SEEN,
    VGGSOUND,
    groups,
    published_section,
    recall_cells,
    retrieval_rows,
    two_ways,
)
from cavsync.train.reporting.charts import bar_chart, recall_chart
from cavsync.train.reporting.page import (
    Chart,
    Report,
    Section,
    Table,
    unusable_sections,
    write_report,
)
from cavsync.train.reporting.record import Record, make_record, write_record

RANK_BINS = (1, 5, 10, 50, 100, 1000)


def write_retrieval(scores: RetrievalScores, out: Path) -> Record:
    """`report.json`, `ranks.parquet` and `report.html` in `out`; returns the record."""
    report = Report(
        title="Zero-shot retrieval",
        lead=f"{gallery_name(scores)}: {scores.coverage.sentence}. Scores by {scores.job.headline}.",
        scores=retrieval_rows(scores.headline),
        sections=[
            ranks_section(scores.headline),
            aggregations_section(scores),
            contamination_section(scores),
            published_section(scores),
            *example_sections(scores),
            *unusable_sections(scores.coverage),
        ],
        facts=facts(scores),
    )
    write_report(report, out / "report.html")
    write_ranks(scores, out)
    return write_record(as_record(scores), out)


def as_record(scores: RetrievalScores) -> Record:
    source, contaminated = scores.source, scores.contamination
    data, defined_by = _data(scores)
    return make_record(
        "retrieval",
        scores=retrieval_rows(scores.headline),
        coverage=scores.coverage,
        items=scores.embeddings.keys,
        weights=source.task.weights if source.task else None,
        data=data,
        defined_by=defined_by,
        config={
            "aggregation": scores.job.headline,
            "gallery": _gallery(scores),
            **(asdict(source.task.data) if source.task else {}),
        },
        results={
            "num_pairs_per_clip": scores.embeddings.audio.shape[1],
            "width": scores.embeddings.audio.shape[2],
            "about_embeddings": source.file.about if source.file else None,
            "aggregations": {name: _without_ranks(one) for name, one in scores.by_aggregation.items()},
            "contamination": {
                "checked": contaminated.checked,
                "training_datasets": contaminated.datasets,
                "unknown": contaminated.unknown,
                "num_trained": len(contaminated.trained),
                "trained": contaminated.trained,
                "without": scores.without_trained,
            },
        },
    )


def ranks_section(result: Retrieval) -> Section:
    ranks, num_clips = result.ranking.own_clip, result.num_clips
    named = {HEARD: ranks.audio_to_video, SEEN: ranks.video_to_audio}
    at = np.unique(np.geomspace(1, num_clips, 60).round().astype(int))
    curves = {name: (at, 100 * (one[:, None] < at).mean(axis=0)) for name, one in named.items()}
    curves["chance"] = (at, 100 * at / num_clips)
    edges = [edge for edge in RANK_BINS if edge < num_clips] + [num_clips]
    labels = [
        f"{low + 1:,}" if low + 1 == high else f"{low + 1:,} to {high:,}"
        for low, high in zip([0, *edges], edges, strict=False)
    ]
    counts = {name: np.histogram(one, [0, *edges])[0].tolist() for name, one in named.items()}
    text = (
        f"{num_clips:,} queries a direction, each among all {num_clips:,} clips. Candidates that score the same as the right "
        "one count as better."
    )
    charts = [
        Chart(recall_chart(curves, "k", "R@k, %"), "Queries whose right answer is among the first k."),
        Chart(
            bar_chart(labels, counts, "rank of the right answer", "queries"),
            "Where the right answers landed.",
        ),
    ]
    return Section("How far down is the right answer?", text, charts=charts)


def aggregations_section(scores: RetrievalScores) -> Section:
    """Every aggregation, from the one set of embeddings."""
    num_pairs = scores.embeddings.audio.shape[1]
    text = (
        f"How the {num_pairs} x {num_pairs} cosines of two clips become one score: the mean or the greatest of the pairs of "
        "equal number (diagonal), or of all. CAV-MAE Sync publishes diagonal-mean. R@k in %."
    )
    tables = [_aggregation_table(scores, "own clip", lambda r: r.own_clip)]
    if scores.headline.same_class is not None:
        text += (
            " Below, any clip that shares a label with the query counts as right: what a user who looks for a barking dog "
            "would accept."
        )
        tables.append(_aggregation_table(scores, "same class", lambda r: r.same_class))
    return Section("Every aggregation", text, tables=tables)


def _aggregation_table(scores: RetrievalScores, title: str, part: Any) -> Table:
    rows = [
        [name, *(cell for _, one in two_ways(part(result)) for cell in recall_cells(one))]
        for name, result in scores.by_aggregation.items()
    ]
    return Table([title, *R_AT, *R_AT], rows, groups=groups(HEARD, SEEN))


def contamination_section(scores: RetrievalScores) -> Section:
    found, apart = scores.contamination, scores.without_trained
    num_clips = len(scores.embeddings.keys)
    title = "Were these clips trained on?"
    if not found.checked:
        return Section(title, f"Not checked: {found.unknown}. Name the training dataset with --trained-on.")
    where = " and ".join(found.datasets)
    caveat = f" Not looked at: {found.unknown}." if found.unknown else ""
    if not found.trained:
        return Section(title, f"No: none of the {num_clips:,} clips comes from a video of {where}.{caveat}")
    text = (
        f"{len(found.trained):,} of the {num_clips:,} clips come from videos that were trained on ({where}), so the score is not "
        f"that of a model that never saw them.{caveat}"
    )
    tables = []
    if apart is not None:
        rows = {
            f"all {num_clips:,} queries": scores.headline.own_clip,
            f"{len(found.trained):,} trained on, among all": apart.trained_queries,
            f"{apart.num_clean:,} not trained on, among all": apart.clean_queries,
            f"{apart.num_clean:,} not trained on, among themselves": apart.clean_gallery,
        }
        cells = [
            [name, *(cell for _, one in two_ways(two) for cell in recall_cells(one))]
            for name, two in rows.items()
        ]
        tables.append(Table(["queries", *R_AT, *R_AT], cells, groups=groups(HEARD, SEEN)))
    return Section(title, f"{text} report.json names them.", tables=tables)


def facts(scores: RetrievalScores) -> list[tuple[str, str]]:
    source = scores.source
    made = (
        [("weights", str(source.task.weights)), ("alignment", source.task.data.alignment)]
        if source.task
        else []
    )
    return [
        *made,
        *([("embeddings", str(source.file.path))] if source.file else []),
        *(
            (f"embeddings: {name}", str(value))
            for name, value in (source.file.about.items() if source.file else ())
        ),
        ("data", f"{source.dataset.paths.root}, split {source.split}" if source.dataset else "none"),
        ("gallery", gallery_name(scores)),
        ("clips", scores.coverage.sentence),
        ("pairs a clip", str(scores.embeddings.audio.shape[1])),
        ("aggregation", scores.job.headline),
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
    data = Path(scores.task.data.path)
    return data, data / SUMMARY_NAME


def _gallery(scores: RetrievalScores) -> Mapping[str, Any] | None:
    if scores.gallery is None:
        return None
    return {"name": gallery_name(scores), "ids_sha256": scores.gallery.ids_sha256}


def _without_ranks(result: Retrieval) -> Mapping[str, Any]:
    """Ranks are in ranks.parquet."""
    return {name: value for name, value in vars(result).items() if name != "ranking"}
