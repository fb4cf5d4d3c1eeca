"""Statistics of a dataset: counts over its index, and log-mel statistics by band over a sample of clips."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cavsync.pipeline.dataset.clip_notes import TEXTS, notes_of
from cavsync.pipeline.dataset.done_record import MelSums
from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow, KeptAudio, MediaFacts
from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.dataset.paths import split_of
from cavsync.pipeline.dataset.reader import read_clip
from cavsync.pipeline.dataset.schema import NUM_MELS, ClipState
from cavsync.pipeline.inspection.failures import FrequentReason, frequent_reasons
from cavsync.pipeline.lists.manifest import ManifestError, load_manifest

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
ABSENT = "none"  # no such stream, or its header does not say
# Facts of the source files that are counted: title -> words for one file.
FACTS: Mapping[str, Callable[[MediaFacts], str]] = {
    "video codec": lambda media: media.video_codec or ABSENT,
    "audio codec": lambda media: media.audio_codec or ABSENT,
    "frame size": lambda media: f"{media.width} x {media.height}" if media.width else ABSENT,
    "frame rate": lambda media: f"{media.fps:.5g}" if media.fps else ABSENT,
    "sample rate": lambda media: f"{media.sample_rate_hz:,} Hz" if media.sample_rate_hz else ABSENT,
    "audio channels": lambda media: str(media.num_channels or ABSENT),
}


# What a shard holds of each clip.
MEMBERS = ("frames", "log-mel", "description", "audio")


def kept_text(kept: KeptAudio) -> str:
    """The audio file of a clip in words."""
    layout = "mono" if kept.kept_channels == 1 else "stereo"
    return f"{kept.kept_codec}, {kept.kept_rate_hz:,} Hz, {layout}"


@dataclass(frozen=True, kw_only=True)
class MelStatistics:
    """Mean and deviation of the log-mel over the training splits, by band over a sample, and published ones to compare."""

    mean: float | None  # None where no clip is ok
    std: float | None
    reference: str  # whose published values the next two are
    reference_mean: float
    reference_std: float
    num_sampled: int  # clips
    band_mean: Sequence[float]  # (128,)
    band_std: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts over the clips of the finished shards."""

    name: str
    finished: str  # phrase: how many shards are finished
    num_listed: int
    states: Mapping[str, int]
    reasons: Mapping[str, FrequentReason]  # state -> its most frequent reason
    ok_hours: float
    clips_per_label: Mapping[str, int]  # of clips in state ok, most first; known labels without a clip too
    durations_s: Sequence[float]  # of clips in state ok
    facts: Mapping[str, Mapping[str, int]]  # FACTS of every file that could be opened
    kept_audio: Mapping[
        str, int
    ]  # the audio files that shards hold, in words -> clips; empty where none was kept
    num_bytes: Mapping[str, int]  # of frames, log-mels, descriptions and audio files of clips in state ok
    notes: Mapping[str, Sequence[str]]  # note on clips in state ok -> their keys; every note of TEXTS
    mel: MelStatistics

    def duration_percentiles_s(self) -> dict[str, float]:
        if not len(self.durations_s):
            return {}
        values = np.percentile(self.durations_s, PERCENTILES)
        return {
            f"p{percent}": round(float(value), 3) for percent, value in zip(PERCENTILES, values, strict=True)
        }


def measure(inventory: Inventory, *, num_mel_clips: int, on_shard: Callable[[int, int], None]) -> Statistics:
    """Count every finished shard; `on_shard` gets (counted, all). Bands are measured over about `num_mel_clips` clips."""
    counts, bands = _Counts(), _Bands()
    shards = list(inventory.records)
    sampled = _spread(shards, num_mel_clips)
    on_shard(0, len(shards))
    for number, shard in enumerate(shards, 1):
        rows = inventory.rows(shard)
        counts.add(rows)
        usable = [row for row in rows if row.state == ClipState.OK]
        bands.add(inventory, usable[: sampled.get(shard, 0)])
        on_shard(number, len(shards))
    return Statistics(
        name=inventory.name,
        finished=inventory.finished_share,
        num_listed=inventory.num_listed,
        states=dict(inventory.states().most_common()),
        reasons=frequent_reasons(inventory),
        ok_hours=sum(counts.durations_s) / 3600,
        clips_per_label=_labelled(counts.labels, inventory.label_names),
        durations_s=counts.durations_s,
        facts={title: dict(counter.most_common()) for title, counter in counts.facts.items()},
        kept_audio=dict(counts.kept_audio.most_common()),
        num_bytes=dict(counts.num_bytes),
        notes=counts.notes,
        mel=_mel_statistics(inventory, bands),
    )


@dataclass
class _Counts:
    labels: Counter[str] = field(default_factory=Counter)
    durations_s: list[float] = field(default_factory=list)
    facts: dict[str, Counter[str]] = field(default_factory=lambda: {title: Counter() for title in FACTS})
    kept_audio: Counter[str] = field(default_factory=Counter)
    num_bytes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(MEMBERS, 0)))
    notes: dict[str, list[str]] = field(default_factory=lambda: {note: [] for note in TEXTS})

    def add(self, rows: Iterable[IndexRow]) -> None:
        for row in rows:
            if row.media is not None and (row.media.video_codec or row.media.audio_codec):
                for title, words in FACTS.items():
                    self.facts[title][words(row.media)] += 1
            if row.clip is not None:
                self._add_usable(row, row.clip)

    def _add_usable(self, row: IndexRow, clip: ClipFacts) -> None:
        self.labels.update(set(row.labels))
        self.durations_s.append(clip.duration_s)
        if row.kept is not None:
            self.kept_audio[kept_text(row.kept)] += 1
        if (at := row.members) is not None:
            sizes = (sum(at.frame_size), at.mel_size, at.json_size, at.audio_size or 0)
            self.num_bytes.update(dict(zip(MEMBERS, sizes, strict=True)))
        for note in notes_of(row):
            self.notes.setdefault(note, []).append(row.key)


@dataclass
class _Bands:
    """Sums of the log-mel by band, (128,) each, over all rows of the sampled clips."""

    num_clips: int = 0
    num_rows: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(NUM_MELS))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(NUM_MELS))

    def add(self, inventory: Inventory, rows: Iterable[IndexRow]) -> None:
        for row in rows:
            mel = read_clip(inventory.paths, row).mel.astype(np.float64)
            self.num_clips += 1
            self.num_rows += len(mel)
            self.total += mel.sum(axis=0)
            self.squares += np.square(mel).sum(axis=0)

    @property
    def mean(self) -> np.ndarray:
        """(128,) of each mel bin, over all rows."""
        mean: np.ndarray = self.total / max(1, self.num_rows)
        return mean

    @property
    def std(self) -> np.ndarray:
        """(128,) of each mel bin, over all rows."""
        variance = self.squares / max(1, self.num_rows) - self.mean**2
        std: np.ndarray = np.sqrt(np.maximum(variance, 0.0))
        return std


def _spread(shards: Sequence[str], num_clips: int) -> dict[str, int]:
    """Shard -> number of clips, for a sample of about `num_clips` over as many shards as possible."""
    if not shards or not num_clips:
        return {}
    chosen = np.linspace(0, len(shards) - 1, min(len(shards), num_clips)).round().astype(int)
    return {shards[index]: -(-num_clips // len(chosen)) for index in chosen}


def _labelled(counts: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """Display name -> clips, most first."""
    named = Counter({name: counts.get(label, 0) for label, name in names.items()})
    named.update({label: count for label, count in counts.items() if label not in names})
    return dict(named.most_common())


def _mel_statistics(inventory: Inventory, bands: _Bands) -> MelStatistics:
    sums = (inventory.records[shard].mel for shard in _training_shards(inventory))
    mean, std = sum(sums, MelSums()).mean_and_std()
    reference, reference_mean, reference_std = _published(inventory.name)
    return MelStatistics(
        mean=mean,
        std=std,
        reference=reference,
        reference_mean=reference_mean,
        reference_std=reference_std,
        num_sampled=bands.num_clips,
        band_mean=bands.mean.tolist() if bands.num_clips else [],
        band_std=bands.std.tolist() if bands.num_clips else [],
    )


def _training_shards(inventory: Inventory) -> list[str]:
    """The finished shards of training splits, as for dataset.json; all where none trains."""
    roles = inventory.roles()
    training = [shard for shard in inventory.records if roles[split_of(shard)] == "train"]
    return training or list(inventory.records)


def _published(name: str) -> tuple[str, float, float]:
    """Title, mean and deviation to compare with, from the dataset's manifest, else AudioSet's."""
    try:
        manifest = load_manifest(name)
    except ManifestError:  # a user's own dataset
        return _published("audioset")
    if manifest.mel_mean is None or manifest.mel_std is None:
        return _published("audioset")
    return manifest.title, manifest.mel_mean, manifest.mel_std
