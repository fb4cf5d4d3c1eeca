"""The scored clips that a model was trained on, known by the ids of their videos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.model.checkpoints.timm_weights import TIMM_PREFIX
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.lists.clip_list import CLIP_NAME
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.train.data.inputs import find_weights, run_config
from cavsync.train.evaluation.retrieval.gallery import KEY


@dataclass(frozen=True)
class TrainingVideos:
    """The ids of the videos that a model was trained on, as far as they are known."""

    datasets: tuple[str, ...]  # folders that were read
    videos: frozenset[str]
    unknown: str  # a sentence on what could not be searched; "" when nothing is left


@dataclass(frozen=True)
class Contamination:
    datasets: tuple[str, ...]
    trained: tuple[str, ...]  # keys of scored clips whose video was trained on
    unknown: str

    @property
    def checked(self) -> bool:
        return bool(self.datasets)

    def split(self, keys: Sequence[str]) -> tuple[list[int], list[int]]:
        """Indices of the clips that were trained on, and of those that were not as far as is known."""
        trained = set(self.trained)
        numbers = range(len(keys))
        return [n for n in numbers if keys[n] in trained], [n for n in numbers if keys[n] not in trained]


def contamination(keys: Sequence[str], training: TrainingVideos) -> Contamination:
    trained = tuple(key for key in keys if not training.videos.isdisjoint(video_ids(key)))
    return Contamination(training.datasets, trained, training.unknown)


def trained_on(dataset: Path, split: str = "train") -> TrainingVideos:
    """A prepared dataset that the user names. Raises DatasetError where it is none."""
    return TrainingVideos((str(dataset),), _videos(dataset, split), "")


def training_of(weights: Path | None) -> TrainingVideos:
    """The datasets of the run that `weights` lies in, and of the runs that it started from."""
    datasets: list[str] = []
    videos: set[str] = set()
    start: Path | None = weights
    while start is not None:
        config = run_config(start)
        if config is None:
            return TrainingVideos(
                tuple(datasets), frozenset(videos), f"{start} says nothing about its training"
            )
        path, split = config["data"]["path"], config["data"]["split"]
        try:
            videos |= _videos(path, split)
        except (DatasetError, StoreError) as error:
            return TrainingVideos(tuple(datasets), frozenset(videos), f"trained on {path}, but {error}")
        datasets.append(path)
        start = _initial_weights(config)
    unknown = "" if weights else "nothing is known about how these embeddings were made"
    return TrainingVideos(tuple(datasets), frozenset(videos), unknown)


def video_ids(name: str) -> Iterator[str]:
    """The possible ids of a clip's video: the name without the time that keys and files' names end with."""
    yield name
    key = KEY.fullmatch(name)
    if key:
        yield key["id"]
    timed = CLIP_NAME.fullmatch(key["id"] if key else name)
    if timed:
        yield timed["id"]


def _videos(dataset: Path | str, split: str) -> frozenset[str]:
    keys = Dataset.open(dataset).index(split, ["key"])["key"]
    clip_ids = set(keys.str.rpartition("_")[0])
    return frozenset(clip_ids | {timed["id"] for timed in map(CLIP_NAME.fullmatch, clip_ids) if timed})


def _initial_weights(config: dict[str, Any]) -> Path | None:
    """The weights that a run started from; None for random ones and ImageNet's, which saw no video."""
    start: str | None = config.get("initial_weights")
    if start is None or start.startswith(TIMM_PREFIX):
        return None
    return find_weights(Path(start)) if Path(start).exists() else Path(start)
