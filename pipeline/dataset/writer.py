"""One shard on disk: clips written to a tar, an index beside it, a done-record last."""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.schema import (
    INDEX_SCHEMA,
    SCHEMA_VERSION,
    frame_member,
    json_member,
    mel_member,
)
from cavsync.pipeline.storage.atomic import AtomicWriter, write_atomically
from cavsync.pipeline.storage.path import num_bytes

BLOCK = tarfile.BLOCKSIZE
# A tar header stores times, owners and modes; fixed ones keep a rebuilt shard byte-identical.
FILE_MODE = 0o644


class ShardWriter:
    """Writes one shard: `add` each listed clip in order, then `finish`.

    Nothing appears under its final name before `finish`; after it the tar, the index and the done-record
    exist, in that order. Leaving the `with` block without `finish` removes what was written.
    """

    def __init__(self, paths: DatasetPaths, shard: str) -> None:
        self.paths, self.shard = paths, shard
        self._rows: list[dict[str, Any]] = []
        self._draft = AtomicWriter(paths.tar(shard))
        self._tar = tarfile.open(fileobj=self._draft.file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._draft.__exit__(kind, error, at)

    def add_failed(self, row: Mapping[str, Any]) -> None:
        """A clip that has no bytes: `row` holds its plan columns, `state` and `reason`."""
        self._rows.append(dict(row))

    def add(self, row: Mapping[str, Any], frames: Sequence[bytes], mel: np.ndarray) -> None:
        """A clip in state ok: index columns, JPEG bytes per frame, log-mel (rows, 128) stored as float16."""
        key = row["key"]
        described = {name: row[name] for name in ("key", "clip_id", "split", "start_s", "end_s", "labels")}
        described |= {name: row[name] for name in ("duration_s", "frame_pts_s")}
        crc = 0
        offsets, sizes = [], []
        for number, jpeg in enumerate(frames):
            offsets.append(self._append(frame_member(key, number), jpeg))
            sizes.append(len(jpeg))
            crc = zlib.crc32(jpeg, crc)
        text = json.dumps(described, sort_keys=True).encode()
        npy = npy_bytes(mel.astype(np.float16))
        json_offset = self._append(json_member(key), text)
        mel_offset = self._append(mel_member(key), npy)
        self._rows.append(
            dict(row)
            | {"num_mel_rows": len(mel), "frame_offset": offsets, "frame_size": sizes}
            | {"mel_offset": mel_offset, "mel_size": len(npy)}
            | {"json_offset": json_offset, "json_size": len(text)}
            | {"crc32": zlib.crc32(npy, zlib.crc32(text, crc))}
        )

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Publish the shard; returns its done-record, to which `facts` are added."""
        self._tar.close()
        index = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(self._rows, schema=INDEX_SCHEMA), index)
        record = {
            "schema_version": SCHEMA_VERSION,
            "shard": self.shard,
            "num_rows": len(self._rows),
            "states": count_states(self._rows),
            "tar_bytes": self._draft.num_bytes(),
            "tar_sha256": self._draft.sha256(),
            "index_sha256": hashlib.sha256(index.getbuffer()).hexdigest(),
            **facts,
        }
        self._draft.publish()
        write_atomically(self.paths.index(self.shard), index.getvalue())
        write_atomically(self.paths.done(self.shard), json.dumps(record, indent=1).encode())
        return record

    def _append(self, name: str, content: bytes) -> int:
        """Write one member; returns the offset of its first content byte."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), FILE_MODE
        self._tar.addfile(info, io.BytesIO(content))
        padded = -(-len(content) // BLOCK) * BLOCK
        return self._tar.offset - padded


def finished_record(paths: DatasetPaths, shard: str) -> dict[str, Any] | None:
    """The shard's done-record; None unless it can be read and its tar and index are there too, whole."""
    try:
        record: dict[str, Any] = json.loads(paths.done(shard).read_bytes())
        whole = num_bytes(paths.tar(shard)) == record["tar_bytes"] and paths.index(shard).is_file()
    except (FileNotFoundError, ValueError):  # not there, or no JSON: damaged
        return None
    return record if whole else None


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def count_states(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    states = [str(row["state"]) for row in rows]
    return {state: states.count(state) for state in sorted(set(states))}
