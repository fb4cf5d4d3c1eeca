"""The done-record of a shard: done/<shard>.json, written last, so that a shard without one is not finished."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.schema import SCHEMA_VERSION
from cavsync.pipeline.storage.path import num_bytes


@dataclass(frozen=True)
class MelSums:
    """Sums over every value of some log-mels, from which their mean and deviation follow."""

    count: int = 0
    sum: float = 0.0
    sum_squares: float = 0.0

    @classmethod
    def of(cls, mel: np.ndarray) -> "MelSums":
        """The sums of one (rows, 128) log-mel."""
        values = mel.astype(np.float64)
        return cls(values.size, float(values.sum()), float(np.square(values).sum()))

    def __add__(self, other: "MelSums") -> "MelSums":
        return MelSums(self.count + other.count, self.sum + other.sum, self.sum_squares + other.sum_squares)

    def mean_and_std(self) -> tuple[float | None, float | None]:
        """None where there is no value."""
        if not self.count:
            return None, None
        mean = self.sum / self.count
        return mean, float(np.sqrt(max(0.0, self.sum_squares / self.count - mean**2)))


@dataclass(frozen=True, kw_only=True)
class DoneRecord:
    """What a finished shard holds."""

    schema_version: int = SCHEMA_VERSION
    shard: str
    num_rows: int
    states: Mapping[str, int]
    tar_bytes: int
    tar_sha256: str
    index_sha256: str
    audio_bytes: int = 0  # of the audio files in the tar
    mel: MelSums = MelSums()
    notes: Mapping[str, int] = field(default_factory=dict)  # note on clips in state ok -> clips
    seconds: float = 0.0  # wall clock that making the shard took
    replaces: Mapping[str, int] | None = None  # in a retry: states that its clips had before

    @classmethod
    def from_json(cls, content: bytes) -> "DoneRecord":
        """Raises ValueError for content that is no done-record."""
        record = json.loads(content)
        try:
            known = {one.name: record[one.name] for one in fields(cls) if one.name in record}
            return cls(**known | {"mel": MelSums(**record.get("mel", {}))})
        except (TypeError, AttributeError) as error:  # a field is missing, or this is no object at all
            raise ValueError(f"no done-record: {error}") from error

    def to_json(self) -> bytes:
        record = asdict(self)
        if self.replaces is None:
            del record["replaces"]
        return json.dumps(record, indent=1).encode()


def finished_record(paths: DatasetPaths, shard: str) -> DoneRecord | None:
    """The shard's done-record; None unless it can be read and its tar and index are there too, whole."""
    try:
        record = DoneRecord.from_json(paths.done(shard).read_bytes())
        whole = num_bytes(paths.tar(shard)) == record.tar_bytes and paths.index(shard).is_file()
    except (FileNotFoundError, ValueError):  # not there, or damaged
        return None
    return record if whole else None


def count_states(states: Iterable[Any]) -> dict[str, int]:
    """How many clips ended in each state, in order of the states' names."""
    return dict(sorted(Counter(map(str, states)).items()))


def total_notes(records: Iterable[DoneRecord]) -> dict[str, int]:
    """On how many clips each note is. A clip in state ok is not tried again, so none counts twice."""
    notes: Counter[str] = Counter()
    for record in records:
        notes.update(record.notes)
    return dict(sorted(notes.items()))


def latest_states(records: Iterable[DoneRecord]) -> Counter[str]:
    """How many listed clips ended in each state; of a clip that was tried again the latest try counts."""
    states: Counter[str] = Counter()
    for record in records:
        states.update(record.states)
        states.subtract(record.replaces or {})
    return +states
