"""The embeddings of a gallery: encoded from the clips of a split, or read from a Parquet file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cavsync.errors import OutputError
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.storage.path import sha256
from cavsync.pipeline.storage.writable import require_writable_file
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.clip_file import read_about, read_embeddings, write_embeddings
from cavsync.train.embedding.clips import ClipEmbeddings, embed_split
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.retrieval.contamination import (
    TrainingVideos,
    known_pairs,
    trained_on,
    training_of,
)
from cavsync.train.evaluation.retrieval.gallery import Gallery, GalleryEntry, GalleryMatch
from cavsync.train.evaluation.retrieval.protocol import EmbeddingSource, GalleryEmbeddings, RetrievalConfig
from cavsync.train.evaluation.retrieval.similarity import UnitVectors
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.reporting.coverage import Coverage, split_coverage


def embed_gallery(
    task: SplitTask,
    config: RetrievalConfig,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> GalleryEmbeddings:
    """Encodes the task's clips, each once; raises CavsyncError on what the user can fix."""
    model, dataset = task.checkpoint.model, task.dataset
    gallery = Gallery.read(config.gallery) if config.gallery else None
    found = _clips_of(dataset, task.data.split, gallery)
    found.coverage.require(config.max_missing)
    training = _training(config, task.weights)
    pairs = known_pairs(config.duplicates, dataset, training)
    clips = ClipAllPairs(task.data, model.config, [dataset])
    wanted = set(found.keys.values()) if gallery else None
    embeddings = embed_split(model, clips, task.checkpoint.device, on_clip, wanted, task.checkpoint.precision)
    source = EmbeddingSource(task=task, model=model.config, dataset=dataset, split=task.data.split)
    labels_of = dict(zip(clips.store.keys, clips.store.labels, strict=True))
    return GalleryEmbeddings(
        config=config,
        source=source,
        gallery=gallery,
        coverage=found.coverage,
        embeddings=_rankable(embeddings),
        labels=_shown_labels(dataset, [labels_of[key] for key in embeddings.keys]),
        training=training,
        pairs=pairs,
    )


def read_gallery(path: Path, config: RetrievalConfig, data: Path | None = None) -> GalleryEmbeddings:
    """From a file of embeddings; `data` is the dataset whose clips they are, for frames, audio and labels."""
    gallery = Gallery.read(config.gallery) if config.gallery else None
    dataset = Dataset.open(data) if data else None
    file = read_embeddings(path)
    training = _training(config, _weights(file.about))
    pairs = known_pairs(config.duplicates, dataset, training)
    names = file.embeddings.keys
    found = _listed(names, gallery, str(path))
    found.coverage.require(config.max_missing)
    wanted = set(found.keys.values()) if gallery else set(names)
    rows = [number for number, name in enumerate(names) if name in wanted]
    embeddings = file.embeddings.of(rows) if len(rows) < len(names) else file.embeddings
    source = EmbeddingSource(
        file=file, dataset=dataset, keys=_keys_in(dataset, path, names) if dataset else {}
    )
    labels = [file.labels[row] for row in rows] if file.labels and any(file.labels) else None
    if labels is None and dataset is not None:
        labels_of = dataset.index("all", ["key", "labels"]).set_index("key")["labels"]
        labels = _shown_labels(dataset, [labels_of.get(source.key(name), ()) for name in embeddings.keys])
    return GalleryEmbeddings(
        config=config,
        source=source,
        gallery=gallery,
        coverage=found.coverage,
        embeddings=_rankable(embeddings),
        labels=labels,
        training=training,
        pairs=pairs,
    )


def save_gallery(embedded: GalleryEmbeddings, path: Path) -> None:
    """The embeddings of a checkpoint as a file that `read_gallery` reads."""
    keys, about = embedded.embeddings.keys, _about(embedded.task, embedded.config)
    write_embeddings(path, embedded.embeddings, embedded.labels or [[] for _ in keys], about)


def require_own_embeddings(path: Path, task: SplitTask, config: RetrievalConfig) -> None:
    """Raises OutputError where `save_gallery` cannot write `path`, or it holds other embeddings, which would be lost."""
    way_out = "give another with --save-embeddings"
    require_writable_file(path, way_out)
    if path.exists() and read_about(path) != json.loads(json.dumps(_about(task, config))):
        raise OutputError(
            f"{path} is there and would be lost: it does not hold the embeddings of these clips by {task.weights}, "
            f"{task.data.one_path}, split {task.data.split}. {way_out.capitalize()}, or remove it."
        )


def _about(task: SplitTask, config: RetrievalConfig) -> dict[str, Any]:
    """What decides the embeddings, for the metadata of their file."""
    gallery = {} if config.gallery is None else {"gallery": sha256(config.gallery)}
    checkpoint = {"path": str(task.weights), "sha256": sha256(task.weights)}
    precision = task.checkpoint.precision
    return {"checkpoint": checkpoint, "precision": precision, "inputs": asdict(task.data), **gallery}


def _rankable(embeddings: ClipEmbeddings) -> ClipEmbeddings:
    """The embeddings, unchanged. Raises EvaluationError for what cannot be ranked."""
    if len(embeddings.keys) < 2:
        raise EvaluationError(
            f"{len(embeddings.keys)} clip can be scored, and retrieval chooses among two clips or more: name a larger "
            "split or gallery."
        )
    for side, vectors in (("audio", embeddings.audio), ("image", embeddings.image)):
        UnitVectors.of(vectors, side, embeddings.keys)
    return embeddings


def _weights(about: Mapping[str, Any]) -> Path | None:
    """The checkpoint that `cavsync` made the file with, if it is still there and unchanged."""
    made_with = about.get("checkpoint")
    if not isinstance(made_with, dict) or not Path(str(made_with.get("path"))).is_file():
        return None
    weights = Path(str(made_with["path"]))
    return weights if sha256(weights) == made_with.get("sha256") else None


def _training(config: RetrievalConfig, weights: Path | None) -> TrainingVideos:
    return trained_on(config.trained_on) if config.trained_on else training_of(weights)


def _clips_of(dataset: Dataset, split: str, gallery: Gallery | None) -> GalleryMatch:
    if gallery is None:
        return GalleryMatch({}, split_coverage(dataset, split))
    return gallery.find(dataset.outcomes(split), f"{dataset.paths.root}, split {split}")


def _listed(keys: Sequence[str], gallery: Gallery | None, where: str) -> GalleryMatch:
    """The gallery's clips among those of a file, all of which are usable."""
    if gallery is None:
        return GalleryMatch({}, Coverage(len(keys), kind="clips"))
    outcomes = pd.DataFrame({"key": list(keys), "state": ClipState.OK, "reason": ""})
    return gallery.find(outcomes, where)


def _keys_in(dataset: Dataset, path: Path, names: Sequence[str]) -> Mapping[str, str]:
    """The dataset's keys of a file's clips, by any of their names. Raises EvaluationError where it has none."""
    found = Gallery(path, tuple(map(GalleryEntry, names))).find(
        dataset.outcomes("all"), str(dataset.paths.root)
    )
    if not found.keys:
        reason = found.coverage.unusable[0].reason
        raise EvaluationError(
            f"{dataset.paths.root} holds no clip of {path}: {reason}. Leave out --data, or name another."
        )
    return found.keys


def _shown_labels(dataset: Dataset, ids: Sequence[Sequence[str]]) -> list[list[str]] | None:
    """The display names of each clip's labels; None where no clip has any."""
    listed, names = (dataset.summary.get(part) or () for part in ("labels", "label_names"))
    name_of: Mapping[str, str] = dict(zip(listed, names, strict=False))
    labels = [[name_of.get(label, label) for label in of_clip] for of_clip in ids]
    return labels if any(labels) else None
