"""Writing one shard: clips go into a tar, then come its index and, last, its done-record."""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.clip_notes import count_notes
from cavsync.pipeline.dataset.done_record import DoneRecord, MelSums, count_states
from cavsync.pipeline.dataset.index_row import GAP_COLUMNS, IndexRow, TarMembers, index_table
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.schema import audio_member, frame_member, json_member, mel_member
from cavsync.pipeline.storage.atomic import AtomicWriter, write_atomically

BLOCK = tarfile.BLOCKSIZE
# Tar headers store times, owners and modes; fixed values make a rebuilt shard byte-identical.
FILE_MODE = 0o644


class ShardWriter:
    """Writes one shard: `add` each listed clip in order, then `finish`.

    Nothing appears under its final name before `finish`; after it the tar, the index and the done-record
    exist, in that order. Leaving the `with` block without `finish` removes what was written.
    """

    def __init__(self, paths: DatasetPaths, shard: str) -> None:
        self.paths, self.shard = paths, shard
        self._rows: list[IndexRow] = []
        self._draft = AtomicWriter(paths.tar(shard))
        self._tar = tarfile.open(fileobj=self._draft.file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._draft.__exit__(kind, error, at)

    def add_failed(self, row: IndexRow) -> None:
        """A clip that has no bytes."""
        self._rows.append(row)

    def add(
        self, row: IndexRow, frames: Sequence[bytes], mel: np.ndarray, audio: bytes | None = None
    ) -> TarMembers:
        """A clip in state ok: its row without `members`, which are returned, JPEG bytes per frame, log-mel (rows, 128)
        stored as float16, and the audio file that `row.kept` describes."""
        if (row.kept is None) != (audio is None):
            raise ValueError(
                f"{row.key}: its row says {row.kept} of an audio file; with it come {audio and len(audio)} bytes"
            )
        text, npy = _description(row), npy_bytes(mel.astype(np.float16))
        frame_offset = [self._append(frame_member(row.key, frame), jpeg) for frame, jpeg in enumerate(frames)]
        json_offset = self._append(json_member(row.key), text)
        mel_offset = self._append(mel_member(row.key), npy)
        contents, audio_offset = [*frames, text, npy], None
        if row.kept is not None and audio is not None:
            audio_offset = self._append(audio_member(row.key, row.kept.kept_codec), audio)
            contents.append(audio)
        members = TarMembers(
            frame_offset=frame_offset,
            frame_size=[len(jpeg) for jpeg in frames],
            json_offset=json_offset,
            json_size=len(text),
            mel_offset=mel_offset,
            mel_size=len(npy),
            audio_offset=audio_offset,
            audio_size=None if audio is None else len(audio),
            crc32=reduce(lambda crc, content: zlib.crc32(content, crc), contents, 0),
        )
        self._rows.append(replace(row, members=members))
        return members

    def finish(
        self, mel: MelSums | None = None, seconds: float = 0.0, replaces: Mapping[str, int] | None = None
    ) -> DoneRecord:
        """Publish the shard; returns its done-record, which holds the arguments too."""
        self._tar.close()
        index = io.BytesIO()
        pq.write_table(index_table(self._rows), index)
        record = DoneRecord(
            shard=self.shard,
            num_rows=len(self._rows),
            states=count_states(row.state for row in self._rows),
            tar_bytes=self._draft.num_bytes(),
            tar_sha256=self._draft.sha256(),
            index_sha256=hashlib.sha256(index.getbuffer()).hexdigest(),
            audio_bytes=sum(row.members.audio_size or 0 for row in self._rows if row.members),
            mel=mel or MelSums(),
            notes=count_notes(self._rows),
            seconds=seconds,
            replaces=replaces,
        )
        self._draft.publish()
        write_atomically(self.paths.index(self.shard), index.getvalue())
        write_atomically(self.paths.done(self.shard), record.to_json())
        return record

    def _append(self, name: str, content: bytes) -> int:
        """Write one member; returns the offset of its first content byte."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), FILE_MODE
        self._tar.addfile(info, io.BytesIO(content))
        padded = -(-len(content) // BLOCK) * BLOCK
        return self._tar.offset - padded


def _description(row: IndexRow) -> bytes:
    """The JSON member, for readers that have only the tar."""
    described = {name: getattr(row, name) for name in ("key", "clip_id", "split", "start_s", "end_s")}
    described |= {name: getattr(row.clip, name) for name in ("duration_s", "frame_pts_s")}
    # Hugging Face's datasets takes the type of a list from the first clips of a tar, and an empty list has none: what
    # came later could not be read.
    lists = {"labels": row.labels} | {name: getattr(row.clip, name) for name in GAP_COLUMNS}
    described |= {name: values for name, values in lists.items() if len(values)}
    return json.dumps(described, sort_keys=True).encode()


def npy_bytes(array: np.ndarray) -> bytes:
    """An array of any shape as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
