"""The clips of a retrieval with their embeddings: encoded here, or read from somebody's file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.storage.path import sha256
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.clip_file import read_embeddings, write_embeddings
from cavsync.train.embedding.clips import ClipEmbeddings, embed_split
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.retrieval.contamination import TrainingClips, trained_on, training_of
from cavsync.train.evaluation.retrieval.gallery import Entry, Found, Gallery
from cavsync.train.evaluation.retrieval.protocol import Candidates, RetrievalConfig, Source
from cavsync.train.evaluation.retrieval.similarity import UnitVectors
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.reporting.coverage import Coverage, split_coverage


def embed_candidates(
    task: SplitTask,
    job: RetrievalConfig,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> Candidates:
    """Encodes the task's clips, each once; raises CavsyncError on what a user can mend."""
    model, dataset = task.checkpoint.model, task.dataset
    gallery = Gallery.read(job.gallery) if job.gallery else None
    found = _clips_of(dataset, task.data.split, gallery)
    found.coverage.require(job.max_missing)
    training = _training(job, task.weights)
    clips = ClipAllPairs(task.data, model.config, dataset)
    wanted = set(found.keys.values()) if gallery else None
    embeddings = embed_split(model, clips, task.checkpoint.device, on_clip, wanted)
    source = Source(task=task, model=model.config, dataset=dataset, split=task.data.split)
    labels_of = dict(zip(clips.store.keys, clips.store.labels, strict=True))
    return Candidates(
        job=job,
        source=source,
        gallery=gallery,
        coverage=found.coverage,
        embeddings=_rankable(embeddings),
        labels=_shown_labels(dataset, [labels_of[key] for key in embeddings.keys]),
        training=training,
    )


def read_candidates(path: Path, job: RetrievalConfig, data: Path | None = None) -> Candidates:
    """From a file of embeddings; `data` is the dataset whose clips they are, for pictures, sounds and labels."""
    gallery = Gallery.read(job.gallery) if job.gallery else None
    dataset = Dataset.open(data) if data else None
    file = read_embeddings(path)
    training = _training(job, _weights(file.about))
    names = file.embeddings.keys
    found = _listed(names, gallery, str(path))
    found.coverage.require(job.max_missing)
    wanted = set(found.keys.values()) if gallery else set(names)
    rows = [number for number, name in enumerate(names) if name in wanted]
    embeddings = file.embeddings.of(rows) if len(rows) < len(names) else file.embeddings
    source = Source(file=file, dataset=dataset, keys=_keys_in(dataset, path, names) if dataset else {})
    labels = [file.labels[row] for row in rows] if file.labels and any(file.labels) else None
    if labels is None and dataset is not None:
        labels_of = dataset.index("all", ["key", "labels"]).set_index("key")["labels"]
        labels = _shown_labels(dataset, [labels_of.get(source.key(name), ()) for name in embeddings.keys])
    return Candidates(
        job=job,
        source=source,
        gallery=gallery,
        coverage=found.coverage,
        embeddings=_rankable(embeddings),
        labels=labels,
        training=training,
    )


def save_candidates(candidates: Candidates, path: Path) -> None:
    """The embeddings of a checkpoint as a file that `read_candidates` reads."""
    task, keys = candidates.task, candidates.embeddings.keys
    about = {
        "checkpoint": {"path": str(task.weights), "sha256": sha256(task.weights)},
        "inputs": asdict(task.data),
    }
    write_embeddings(path, candidates.embeddings, candidates.labels or [[] for _ in keys], about)


def _rankable(embeddings: ClipEmbeddings) -> ClipEmbeddings:
    """The same. Raises EvaluationError for what cannot be ranked."""
    if len(embeddings.keys) < 2:
        raise EvaluationError(
            f"{len(embeddings.keys)} clip can be scored, and retrieval chooses among two clips or more: name a larger "
            "split or gallery."
        )
    for side, vectors in (("audio", embeddings.audio), ("image", embeddings.image)):
        UnitVectors.of(vectors, side, embeddings.keys)
    return embeddings


def _weights(about: Mapping[str, Any]) -> Path | None:
    """The checkpoint that a file of ours was made with, if it is still there and the same."""
    made_with = about.get("checkpoint")
    if not isinstance(made_with, dict) or not Path(str(made_with.get("path"))).is_file():
        return None
    weights = Path(str(made_with["path"]))
    return weights if sha256(weights) == made_with.get("sha256") else None


def _training(job: RetrievalConfig, weights: Path | None) -> TrainingClips:
    return trained_on(job.trained_on) if job.trained_on else training_of(weights)


def _clips_of(dataset: Dataset, split: str, gallery: Gallery | None) -> Found:
    if gallery is None:
        return Found({}, split_coverage(dataset, split))
    return gallery.find(dataset.outcomes(split), f"{dataset.paths.root}, split {split}")


def _listed(keys: Sequence[str], gallery: Gallery | None, where: str) -> Found:
    """The same of a file, all of whose clips are there."""
    if gallery is None:
        return Found({}, Coverage(len(keys), kind="clips"))
    outcomes = pd.DataFrame({"key": list(keys), "state": ClipState.OK, "reason": ""})
    return gallery.find(outcomes, where)


def _keys_in(dataset: Dataset, path: Path, names: Sequence[str]) -> Mapping[str, str]:
    """The dataset's keys of a file's clips, whatever they are named by. Raises EvaluationError where it has none."""
    found = Gallery(path, tuple(map(Entry, names))).find(dataset.outcomes("all"), str(dataset.paths.root))
    if not found.keys:
        reason = found.coverage.unusable[0].reason
        raise EvaluationError(
            f"{dataset.paths.root} holds no clip of {path}: {reason}. Leave out --data, or name another."
        )
    return found.keys


def _shown_labels(dataset: Dataset, ids: Sequence[Sequence[str]]) -> list[list[str]] | None:
    """The labels of each clip as people read them; None where no clip has any."""
    listed, names = (dataset.summary.get(part) or () for part in ("labels", "label_names"))
    name_of: Mapping[str, str] = dict(zip(listed, names, strict=False))
    labels = [[name_of.get(label, label) for label in of_clip] for of_clip in ids]
    return labels if any(labels) else None
