"""The fingerprints of clips: codes of their audio and spectra of their frames, as flat arrays and as Parquet files."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.index_row import IndexRow
from cavsync.pipeline.dataset.reader import ClipContent
from cavsync.pipeline.duplicates.audio_codes import AudioCodes, audio_codes
from cavsync.pipeline.duplicates.frame_codes import clip_spectra
from cavsync.pipeline.storage.atomic import AtomicWriter
from cavsync.pipeline.storage.parquet import read_table
from cavsync.pipeline.storage.path import AnyPath

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("split", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("onset_rows", pa.list_(pa.int32())),
        pa.field("onset_codes", pa.list_(pa.uint64())),
        pa.field("frame_pts_s", pa.list_(pa.float32())),
        pa.field("spectra", pa.list_(pa.float16())),  # (frames, 8, 8), flat
    ]
)
NUM_VALUES = 64  # of a frame's spectrum


@dataclass(frozen=True)
class ClipFingerprint:
    """What is compared of one clip."""

    key: str
    split: str
    duration_s: float
    audio: AudioCodes
    frame_pts_s: np.ndarray  # float32 (frames,)
    spectra: np.ndarray  # float16 (frames, 8, 8)


@dataclass(frozen=True)
class Fingerprints:
    """Those of many clips; clip n has the onsets [onset_start[n], onset_start[n + 1]), and frames likewise."""

    keys: np.ndarray  # str (clips,)
    splits: np.ndarray  # str (clips,)
    duration_s: np.ndarray  # float64 (clips,)
    onset_start: np.ndarray  # int64 (clips + 1,)
    onset_rows: np.ndarray  # int32 (onsets,)
    onset_codes: np.ndarray  # uint64 (onsets,)
    frame_start: np.ndarray  # int64 (clips + 1,)
    frame_pts_s: np.ndarray  # float32 (frames,)
    spectra: np.ndarray  # float16 (frames, 8, 8)

    def __len__(self) -> int:
        return len(self.keys)

    def clip(self, number: int) -> ClipFingerprint:
        onsets = slice(*self.onset_start[number : number + 2])
        frames = slice(*self.frame_start[number : number + 2])
        return ClipFingerprint(
            str(self.keys[number]),
            str(self.splits[number]),
            float(self.duration_s[number]),
            AudioCodes(self.onset_rows[onsets], self.onset_codes[onsets]),
            self.frame_pts_s[frames],
            self.spectra[frames],
        )

    def owners_of_onsets(self) -> np.ndarray:
        """int32 (onsets,): the number of each one's clip."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.onset_start))

    def owners_of_frames(self) -> np.ndarray:
        """int32 (frames,): the number of each one's clip."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.frame_start))


def fingerprint(row: IndexRow, content: ClipContent) -> ClipFingerprint:
    """The fingerprint of a clip in state ok. Silent audio has no onsets."""
    assert row.clip is not None, f"{row.key} ended as {row.state}"
    none = AudioCodes(np.zeros(0, np.int32), np.zeros(0, np.uint64))
    return ClipFingerprint(
        key=row.key,
        split=row.split,
        duration_s=row.clip.duration_s,
        audio=none if row.clip.silent else audio_codes(content.mel),
        frame_pts_s=np.asarray(row.clip.frame_pts_s, np.float32),
        spectra=clip_spectra(content.frames).astype(np.float16),
    )


def joined(parts: Sequence[Fingerprints]) -> Fingerprints:
    """The clips of all parts, in their order."""
    flat: dict[str, Any] = {}
    for name in [field.name for field in fields(Fingerprints)]:
        arrays = [getattr(part, name) for part in parts]
        if name.endswith("_start"):
            lengths = np.concatenate([np.diff(one) for one in arrays])
            flat[name] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        else:
            flat[name] = np.concatenate(arrays)
    return Fingerprints(**flat)


def write_fingerprints(path: AnyPath, clips: Sequence[ClipFingerprint]) -> None:
    rows = {
        "key": [clip.key for clip in clips],
        "split": [clip.split for clip in clips],
        "duration_s": [clip.duration_s for clip in clips],
        "onset_rows": [clip.audio.rows for clip in clips],
        "onset_codes": [clip.audio.codes for clip in clips],
        "frame_pts_s": [clip.frame_pts_s for clip in clips],
        "spectra": [clip.spectra.ravel() for clip in clips],
    }
    with AtomicWriter(path) as output:
        pq.write_table(pa.table(rows, schema=SCHEMA), output.file, compression="zstd")
        output.publish()


def read_fingerprints(path: AnyPath) -> Fingerprints:
    """Raises DamagedFileError for a file that is none."""
    table = read_table(path, "Remove it; the next run makes it again.").combine_chunks()
    onset_start, onset_rows = _lists(table["onset_rows"])
    frame_start, frame_pts_s = _lists(table["frame_pts_s"])
    return Fingerprints(
        keys=np.array(table["key"].to_pylist(), dtype=np.str_),
        splits=np.array(table["split"].to_pylist(), dtype=np.str_),
        duration_s=table["duration_s"].to_numpy(),
        onset_start=onset_start,
        onset_rows=onset_rows,
        onset_codes=_lists(table["onset_codes"])[1],
        frame_start=frame_start,
        frame_pts_s=frame_pts_s,
        spectra=_lists(table["spectra"])[1].reshape(-1, 8, 8),
    )


def _lists(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where each list begins and the last one ends, int64 (clips + 1,), and their values one after the other."""
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # pyarrow gives one for a table without a row
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], column.type)
    starts = np.asarray(lists.offsets).astype(np.int64)
    return starts - starts[0], lists.flatten().to_numpy(zero_copy_only=False)
