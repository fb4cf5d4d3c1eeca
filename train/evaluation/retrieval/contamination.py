"""The scored clips that a model was trained on: by the ids of their videos, and by content where pairs of copies are known."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.model.checkpoints.timm_weights import TIMM_PREFIX
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.duplicates.pairs import Matched, PairFile, PairFileError, find_pairs_of, read_pairs
from cavsync.pipeline.lists.clip_list import CLIP_NAME
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import as_path
from cavsync.train.data.inputs import find_weights, run_config
from cavsync.train.evaluation.retrieval.gallery import KEY


@dataclass(frozen=True)
class TrainingVideos:
    """The ids of the videos that a model was trained on, as far as they are known."""

    datasets: tuple[str, ...]  # folders that were read
    videos: frozenset[str]
    unknown: str  # a sentence on what could not be searched; "" when nothing is left
    keys: frozenset[str] = frozenset()  # of the clips


@dataclass(frozen=True)
class CopiesOfTraining:
    """The scored clips that are copies of training clips under another id, as a file of pairs has them."""

    path: str
    both: tuple[str, ...]  # names of clips whose audio and frames are a training clip's
    audio: tuple[str, ...]  # whose audio is, and frames are not
    frames: tuple[str, ...]  # whose frames are, and audio is not


@dataclass(frozen=True)
class Contamination:
    datasets: tuple[str, ...]
    trained: tuple[str, ...]  # names of scored clips whose video was trained on, or whose copy was
    unknown: str
    copies: CopiesOfTraining | None = None  # None where nothing is known about content

    @property
    def checked(self) -> bool:
        return bool(self.datasets)

    def split(self, keys: Sequence[str]) -> tuple[list[int], list[int]]:
        """Indices of the clips that were trained on, and of those that were not as far as is known."""
        trained = set(self.trained)
        numbers = range(len(keys))
        return [n for n in numbers if keys[n] in trained], [n for n in numbers if keys[n] not in trained]


def contamination(
    names: Sequence[str],
    training: TrainingVideos,
    pairs: PairFile | None = None,
    key_of: Callable[[str], str] = str,
) -> Contamination:
    """Which clips of those names were trained on; `key_of` gives a clip's key in the file of pairs."""
    by_id = {name for name in names if not training.videos.isdisjoint(video_ids(name))}
    copies = None if pairs is None else _copies([n for n in names if n not in by_id], training, pairs, key_of)
    trained = by_id.union(copies.both if copies else ())
    ordered = tuple(name for name in names if name in trained)
    return Contamination(training.datasets, ordered, training.unknown, copies)


def known_pairs(given: Path | None, dataset: Dataset | None, training: TrainingVideos) -> PairFile | None:
    """The pairs of the file that is given, or of one that lies in the folder of the scored dataset.

    Raises PairFileError for a given file whose pairs are of no scored and no training clip.
    """
    if given is None:
        return None if dataset is None else find_pairs_of(dataset, training.datasets)
    found = read_pairs(given)
    known = training.keys.union(() if dataset is None else dataset.index("all", ["key"])["key"])
    if known and found.pairs and not any({pair.key, pair.other} & known for pair in found.pairs):
        raise PairFileError(
            f"{given} has {len(found.pairs):,} pairs, of {found.about.get('dataset')}, and no clip of them is among the scored or "
            "the training clips. Name the file of these datasets with --duplicates."
        )
    return found


def _copies(
    names: Sequence[str], training: TrainingVideos, pairs: PairFile, key_of: Callable[[str], str]
) -> CopiesOfTraining:
    matched: dict[str, set[Matched]] = {}
    for pair in pairs.pairs:
        for key, other in ((pair.key, pair.other), (pair.other, pair.key)):
            if other in training.keys:
                matched.setdefault(key, set()).add(pair.matched)
    kinds = {name: matched.get(key_of(name), set()) for name in names}
    both = tuple(name for name, found in kinds.items() if "both" in found or {"audio", "frames"} <= found)
    rest = [(name, found) for name, found in kinds.items() if name not in set(both)]
    audio = tuple(name for name, found in rest if "audio" in found)
    return CopiesOfTraining(str(pairs.path), both, audio, tuple(n for n, found in rest if "frames" in found))


def trained_on(dataset: Path, split: str = "train") -> TrainingVideos:
    """A prepared dataset that the user names. Raises DatasetError where it is none."""
    keys = _keys(dataset, split)
    return TrainingVideos((str(dataset),), _videos(keys), "", keys)


def training_of(weights: Path | None) -> TrainingVideos:
    """The datasets of the run that `weights` lies in, and of the runs that it started from."""
    datasets: list[str] = []
    keys: set[str] = set()
    start: Path | None = weights
    while start is not None:
        config = run_config(start)
        if config is None:
            return _training(datasets, keys, f"{start} says nothing about its training")
        paths, split = config["data"]["path"], config["data"]["split"]
        unread: list[str] = []
        for path in [paths] if isinstance(paths, str) else paths:
            try:
                keys |= _keys(path, split)
                datasets.append(path)
            except (DatasetError, StoreError) as error:
                unread.append(f"trained on {path}, but {error}")
        if unread:
            return _training(datasets, keys, " ".join(unread))
        start = _initial_weights(config)
    unknown = "" if weights else "nothing is known about how these embeddings were made"
    return _training(datasets, keys, unknown)


def _training(datasets: Sequence[str], keys: set[str], unknown: str) -> TrainingVideos:
    return TrainingVideos(tuple(datasets), _videos(keys), unknown, frozenset(keys))


def video_ids(name: str) -> Iterator[str]:
    """The possible ids of a clip's video: the name without the time that keys and files' names end with."""
    yield name
    key = KEY.fullmatch(name)
    if key:
        yield key["id"]
    timed = CLIP_NAME.fullmatch(key["id"] if key else name)
    if timed:
        yield timed["id"]


def _keys(dataset: Path | str, split: str) -> frozenset[str]:
    return frozenset(Dataset.open(dataset).index(split, ["key"])["key"])


def _videos(keys: Iterable[str]) -> frozenset[str]:
    clip_ids = {key.rpartition("_")[0] for key in keys}
    return frozenset(clip_ids | {timed["id"] for timed in map(CLIP_NAME.fullmatch, clip_ids) if timed})


def _initial_weights(config: dict[str, Any]) -> Path | None:
    """The weights that a run started from; None for random ones and ImageNet's, which saw no video."""
    start: str | None = config.get("initial_weights")
    if start is None or start.startswith(TIMM_PREFIX):
        return None
    if "://" in start:
        return find_weights(as_path(start))
    return find_weights(Path(start)) if Path(start).exists() else Path(start)
