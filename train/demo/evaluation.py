"""All evaluations of the demo's model, in order, with their reports and the demo's page."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from cavsync.pipeline.synthetic.world import read_world
from cavsync.train.demo.control import with_p_values
from cavsync.train.demo.demo import (
    DemoConfig,
    segment_world,
    segmentation_summary,
    synchronise_world,
    synchrony_summary,
    write_demo_report,
)
from cavsync.train.demo.videos import (
    localize_world,
    localized_section,
    search_row,
    search_section,
    search_world,
)
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.evaluation.retrieval.gallery_embeddings import embed_gallery
from cavsync.train.evaluation.retrieval.protocol import RetrievalConfig, score_retrieval
from cavsync.train.evaluation.retrieval.report import write_retrieval
from cavsync.train.evaluation.retrieval.tables import own_clip_rows
from cavsync.train.evaluation.segmentation.report import segmentation_result
from cavsync.train.evaluation.synchrony.report import synchrony_result
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.reporting.page import Score
from cavsync.train.reporting.record import write_evaluation

# From the name of a stage and the unit of its parts to a callback that takes `(done, total)`.
Stage = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class DemoResult:
    scores: list[Score]
    num_clips: int
    report: Path


def evaluate_demo(config: DemoConfig, stage: Stage) -> DemoResult:
    """Scores the trained model of `config.run` on the world's test clips and writes every report into its folder."""
    checkpoint = LoadedCheckpoint.load(config.run, "auto")
    task = SplitTask.of(checkpoint, None, "test")
    with stage("embedding", "clips") as on_clip:
        embedded = embed_gallery(task, RetrievalConfig(), on_clip)
    retrieval = score_retrieval(embedded, checkpoint.device)
    write_retrieval(retrieval, config.run / "retrieval-test")
    with stage("synchrony", "clips") as on_clip:
        synchrony = synchronise_world(task, on_clip)
    write_evaluation(synchrony_result(synchrony), config.run / "synchrony-test")
    with stage("heatmaps", "rows") as on_row:
        segmented = segment_world(config, checkpoint, on_row)
    write_evaluation(segmentation_result(segmented), config.run / "segmentation-ade20k_sound")
    truth = read_world(config.root)
    with stage("searching", "files") as on_file:
        searched = search_world(config, checkpoint, truth, on_file)
    with stage("localizing", "s") as on_second:
        localized = localize_world(config, checkpoint, truth, on_second)
    found = own_clip_rows(retrieval.primary)
    scores = [
        *(with_p_values(found, len(retrieval.embeddings.keys)) if config.control else found),
        *synchrony_summary(synchrony, truth),
        *segmentation_summary(segmented),
        search_row(searched),
    ]
    videos = [search_section(searched), localized_section(config, localized)]
    report = write_demo_report(config, retrieval, synchrony, segmented, videos, scores)
    return DemoResult(scores, len(retrieval.embeddings.keys), report)
