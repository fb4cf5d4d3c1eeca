"""What a retrieval evaluation is asked, and what it found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.embedding.clip_file import EmbeddingFile
from cavsync.train.embedding.clips import ClipEmbeddings
from cavsync.train.evaluation.retrieval.contamination import Contamination, TrainingClips
from cavsync.train.evaluation.retrieval.gallery import Gallery
from cavsync.train.evaluation.retrieval.recall import Directions, Retrieval
from cavsync.train.evaluation.retrieval.similarity import Aggregation
from cavsync.train.evaluation.task import Task
from cavsync.train.reporting.coverage import Coverage


@dataclass(frozen=True, kw_only=True)
class RetrievalJob:
    """What is asked, whoever made the embeddings."""

    headline: Aggregation = "diagonal-mean"
    gallery: Path | None = None
    """List of the clips; None takes all that are there."""
    max_missing: float = 0.5
    """Share of the listed clips that may be left out; a larger one is an error."""
    trained_on: Path | None = None
    """Dataset that the model was trained on; None takes what the run folder says."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the embeddings come from; `task` and `model` where they were made here."""

    task: Task | None = None
    model: ModelConfig | None = None
    file: EmbeddingFile | None = None
    dataset: Dataset | None = None  # holds the clips' pictures and sounds
    split: str = "all"  # of the dataset
    keys: Mapping[str, str] = field(default_factory=dict)  # of a file's clips: name -> the dataset's key

    def key(self, name: str) -> str:
        """The dataset's key of a clip, by its name among the embeddings."""
        return self.keys.get(name, name)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The clips that are queries and candidates, with all that is known before they are scored."""

    job: RetrievalJob
    source: Source
    gallery: Gallery | None  # None: all clips of the split, or of the file
    coverage: Coverage
    embeddings: ClipEmbeddings
    labels: list[list[str]] | None  # of each clip, as people read them
    training: TrainingClips

    @property
    def task(self) -> Task:
        """Of embeddings that were made here."""
        assert self.source.task is not None, "these embeddings came out of a file"
        return self.source.task

    @property
    def model(self) -> ModelConfig:
        assert self.source.model is not None, "these embeddings came out of a file"
        return self.source.model


@dataclass(frozen=True, kw_only=True)
class WithoutTrained:
    """The headline's aggregation, with the clips that were trained on told apart."""

    num_clean: int
    trained_queries: Directions  # among all clips
    clean_queries: Directions  # among all clips
    clean_gallery: Directions  # the others among themselves


@dataclass(frozen=True, kw_only=True)
class RetrievalScores(Candidates):
    """One set of embeddings, scored under every aggregation."""

    by_aggregation: dict[Aggregation, Retrieval]
    contamination: Contamination
    without_trained: WithoutTrained | None  # None where no clip, or nearly every one, was trained on

    @property
    def headline(self) -> Retrieval:
        return self.by_aggregation[self.job.headline]
