"""`cavsync eval retrieval`: embeddings of clips, scored under every aggregation in both directions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.duplicates.pairs import PairFile
from cavsync.pipeline.storage.atomic import AtomicWriter
from cavsync.train.choices import Aggregation
from cavsync.train.embedding.clip_file import EmbeddingFile
from cavsync.train.embedding.clips import ClipEmbeddings
from cavsync.train.evaluation.retrieval.contamination import Contamination, TrainingVideos, contamination
from cavsync.train.evaluation.retrieval.gallery import Gallery
from cavsync.train.evaluation.retrieval.metrics import Directions, Retrieval, retrieve, score_ranks
from cavsync.train.evaluation.retrieval.ranking import num_tiles, rank
from cavsync.train.evaluation.retrieval.similarity import AGGREGATIONS
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.reporting.coverage import Coverage

RANKS_NAME = "ranks.parquet"


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """The choices of a retrieval, whatever the embeddings come from."""

    primary_aggregation: Aggregation = "diagonal-mean"
    gallery: Path | None = None
    """List of the clips; None takes all that are there."""
    max_missing: float = 0.5
    """Fraction of the listed clips that may be left out; a larger one is an error."""
    trained_on: Path | None = None
    """Dataset that the model was trained on; None takes what the run folder says."""
    duplicates: Path | None = None
    """File of pairs of `cavsync data duplicates`; None takes one in the folder of the scored dataset, if it is there."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingSource:
    """Where the embeddings come from; `task` and `model` where they were made here."""

    task: SplitTask | None = None
    model: ModelConfig | None = None
    file: EmbeddingFile | None = None
    dataset: Dataset | None = None  # holds the clips' frames and audio
    split: str = "all"  # of the dataset
    keys: Mapping[str, str] = field(default_factory=dict)  # of a file's clips: name -> the dataset's key

    def key(self, name: str) -> str:
        """The dataset's key of a clip, by its name among the embeddings."""
        return self.keys.get(name, name)


@dataclass(frozen=True, kw_only=True)
class GalleryEmbeddings:
    """The clips of a gallery, each a query and a candidate, with all that is known before they are scored."""

    config: RetrievalConfig
    source: EmbeddingSource
    gallery: Gallery | None  # None: all clips of the split, or of the file
    coverage: Coverage
    embeddings: ClipEmbeddings
    labels: list[list[str]] | None  # of each clip, by their display names
    training: TrainingVideos
    pairs: PairFile | None = None  # clips that are the same recording, by content

    @property
    def task(self) -> SplitTask:
        """The checkpoint and split of embeddings that were made here."""
        assert self.source.task is not None, "these embeddings were read from a file"
        return self.source.task

    @property
    def model(self) -> ModelConfig:
        assert self.source.model is not None, "these embeddings were read from a file"
        return self.source.model


@dataclass(frozen=True, kw_only=True)
class WithoutTrained:
    """The primary aggregation, separately for clips that were trained on and for others."""

    num_clean: int
    trained_queries: Directions  # among all clips
    clean_queries: Directions  # among all clips
    clean_gallery: Directions  # the others among themselves


@dataclass(frozen=True, kw_only=True)
class RetrievalScores(GalleryEmbeddings):
    """One set of embeddings, scored under every aggregation."""

    by_aggregation: dict[Aggregation, Retrieval]
    contamination: Contamination
    without_trained: WithoutTrained | None  # None where no clip, or nearly every one, was trained on

    @property
    def primary(self) -> Retrieval:
        return self.by_aggregation[self.config.primary_aggregation]


def score_retrieval(
    embedded: GalleryEmbeddings,
    device: torch.device,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
) -> RetrievalScores:
    """Products are computed on `device`, tile by tile."""
    embeddings, config = embedded.embeddings, embedded.config
    classes = class_matrix(embedded.labels)
    total, done = len(AGGREGATIONS) * num_tiles(len(embeddings.keys)), 0

    def count() -> None:
        nonlocal done
        done += 1
        on_tile(done, total)

    by_aggregation = {
        name: retrieve(embeddings.audio, embeddings.image, name, classes, device, count)
        for name in AGGREGATIONS
    }
    contaminated = contamination(embeddings.keys, embedded.training, embedded.pairs, embedded.source.key)
    without = _without_trained(embedded, by_aggregation[config.primary_aggregation], contaminated, device)
    return RetrievalScores(
        **vars(embedded),
        by_aggregation=by_aggregation,
        contamination=contaminated,
        without_trained=without,
    )


def class_matrix(labels: Sequence[Sequence[str]] | None) -> Tensor | None:
    """(N, C) float32, 1 where a clip has a label; None where no clip has one."""
    names = sorted({name for of_clip in labels or () for name in of_clip})
    if not names or labels is None:
        return None
    column = {name: index for index, name in enumerate(names)}
    classes = torch.zeros(len(labels), len(names))
    for clip, of_clip in enumerate(labels):
        classes[clip, [column[name] for name in of_clip]] = 1
    return classes


def _without_trained(
    embedded: GalleryEmbeddings, whole: Retrieval, contaminated: Contamination, device: torch.device
) -> WithoutTrained | None:
    embeddings, config = embedded.embeddings, embedded.config
    trained, clean = contaminated.split(embeddings.keys)
    if not trained or len(clean) < 2:
        return None
    ranks = whole.ranking.own_clip
    ranks_of_clean = rank(
        embeddings.audio, embeddings.image, config.primary_aggregation, device=device, among=clean
    ).own_clip
    return WithoutTrained(
        num_clean=len(clean),
        trained_queries=score_ranks(ranks.of(trained), len(embeddings.keys)),
        clean_queries=score_ranks(ranks.of(clean), len(embeddings.keys)),
        clean_gallery=score_ranks(ranks_of_clean.of(clean), len(clean)),
    )


def write_ranks(scores: RetrievalScores, out: Path) -> None:
    """One row a clip, sorted: `clip`, and columns such as `diagonal-mean own_clip audio_to_video`; 1 is best."""
    order = np.argsort(scores.embeddings.keys)
    columns = {"clip": pa.array(np.array(scores.embeddings.keys)[order])}
    for aggregation, result in scores.by_aggregation.items():
        for right, ranks in vars(result.ranking).items():
            for direction, one in vars(ranks).items() if ranks else ():
                columns[f"{aggregation} {right} {direction}"] = pa.array((one + 1)[order].astype(np.int32))
    with AtomicWriter(out / RANKS_NAME) as output:
        pq.write_table(pa.table(columns), output.file, compression="zstd")
        output.publish()


def read_ranks(path: Path, aggregation: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Clips, sorted, and their ranks, 1 is best, under `own_clip audio_to_video` and the like: (clips,) each."""
    table = pq.read_table(path)
    prefix = f"{aggregation} "
    columns = [name for name in table.column_names if name.startswith(prefix)]
    return table["clip"].to_pylist(), {name.removeprefix(prefix): table[name].to_numpy() for name in columns}
