"""`cavsync eval retrieval`: embed a split once, score it every way, and write what was found."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from cavsync.model.checkpoint import load_model
from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset import Dataset
from cavsync.pipeline.shards import SUMMARY_NAME
from cavsync.train.evaluation.coverage import Coverage, split_coverage
from cavsync.train.evaluation.embeddings import ClipEmbeddings, embed_split
from cavsync.train.evaluation.gallery import retrieval_gallery
from cavsync.train.evaluation.record import Record, make_record, write_record
from cavsync.train.evaluation.report import Report, Score, Section, write_report
from cavsync.train.evaluation.retrieval import AGGREGATIONS, Aggregation, Retrieval, retrieve, similarity
from cavsync.train.evaluation.task import Task

QUERIES_SHOWN = 6
OnClip = Callable[[int, int], None]


@dataclass(frozen=True)
class RetrievalScores:
    """One embedding of a split, scored under every aggregation."""

    task: Task
    model: ModelConfig
    embeddings: ClipEmbeddings
    by_aggregation: dict[Aggregation, Retrieval]
    coverage: Coverage


def score_retrieval(task: Task, device: torch.device, on_clip: OnClip) -> RetrievalScores:
    """Embeds the task's split and scores it; raises CavsyncError on what a user can mend."""
    model = load_model(task.weights)
    embeddings = embed_split(model, task.data, device, on_clip)
    by_aggregation = {name: retrieve(embeddings.audio, embeddings.image, name) for name in AGGREGATIONS}
    coverage = split_coverage(Dataset.open(task.data.path), task.data.split)
    return RetrievalScores(task, model.config, embeddings, by_aggregation, coverage)


def write_retrieval(scores: RetrievalScores, headline: Aggregation, out: Path) -> Record:
    """`report.json` and `report.html` in `out`; returns the record."""
    report = Report(
        title="Zero-shot retrieval",
        lead=f"Among {scores.coverage.sentence} of split {scores.task.data.split!r}.",
        scores=retrieval_rows(scores.by_aggregation[headline]),
        sections=gallery_sections(scores, headline),
        facts=facts(scores, headline),
    )
    write_report(report, out / "report.html")
    return write_record(as_record(scores, headline), out)


def as_record(scores: RetrievalScores, headline: Aggregation) -> Record:
    data = Path(scores.task.data.path)
    return make_record(
        "retrieval",
        scores=retrieval_rows(scores.by_aggregation[headline]),
        coverage=scores.coverage,
        items=scores.embeddings.keys,
        weights=scores.task.weights,
        data=data,
        defined_by=data / SUMMARY_NAME,
        config={"aggregation": headline, **asdict(scores.task.data)},
        results={
            "num_pairs_per_clip": scores.embeddings.audio.shape[1],
            "aggregations": scores.by_aggregation,
        },
    )


def retrieval_rows(result: Retrieval) -> list[Score]:
    """The six recalls as rows of a table."""
    directions = {"sound → video": result.audio_to_video, "video → sound": result.video_to_audio}
    return [
        Score(
            f"{name} R@{r.k}", r.percent, r.chance, r.low, r.high, _median(d.median_rank) if r.k == 1 else ""
        )
        for name, d in directions.items()
        for r in d.recalls
    ]


def gallery_sections(scores: RetrievalScores, headline: Aggregation) -> Sequence[Section]:
    dataset = Dataset.open(scores.task.data.path)
    rows = dataset.index(scores.task.data.split)
    matrix: Tensor = similarity(scores.embeddings.audio, scores.embeddings.image, headline)
    heard, seen = retrieval_gallery(dataset.paths, rows, matrix, QUERIES_SHOWN)
    drawn = "Queries were drawn at random; green marks the right clip, red a wrong one. "
    return [
        Section(
            "Which video does this sound belong to?", drawn + "The query is a clip's log-mel.", queries=heard
        ),
        Section(
            "Which sound does this video belong to?",
            drawn + "The query shows four of 16 frames.",
            queries=seen,
        ),
    ]


def facts(scores: RetrievalScores, headline: Aggregation) -> list[tuple[str, str]]:
    return [
        ("weights", str(scores.task.weights)),
        ("dataset", f"{scores.task.data.path}, split {scores.task.data.split}"),
        ("clips", scores.coverage.sentence),
        ("pairs a clip", str(scores.embeddings.audio.shape[1])),
        ("aggregation", headline),
        ("alignment", scores.task.data.alignment),
    ]


def _median(rank: float) -> str:
    return f"median rank {rank:g}"
