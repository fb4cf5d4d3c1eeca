"""The Parquet file of `cavsync embed`: one row a window, in the order of the files, then of time.

    file     string            as it was named, or found in the folder
    start_s  double            the window of audio is [start_s, end_s), seconds from the file's start
    end_s    double
    frame_s  double            when the frame in the window's middle came on screen; null without a frame
    audio    list of D floats  unit vector of the audio; null where there is none, or only silence
    image    list of D floats  unit vector of the frame; null where there is none

The metadata holds two JSON texts: under `cavsync` what decided the embeddings (the sha256 of the checkpoint, the precision, the model,
the statistics of its log-mel, window and step) and the folder that the names of files begin in, under `cavsync.files` a record for every file with its state.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.schema import ClipState
from cavsync.train.embedding.embedder import FileEmbeddings
from cavsync.train.errors import EvaluationError

Side = Literal["audio", "image"]
ABOUT, FILES = b"cavsync", b"cavsync.files"
COLUMNS = ("file", "start_s", "end_s", "frame_s", "audio", "image")


class WindowFileError(EvaluationError):
    """A file that is not of `cavsync embed`, or of another checkpoint."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """The outcome of a file."""

    file: str
    state: ClipState
    reason: str | None  # a sentence, None when the state is ok
    duration_s: float = 0.0
    num_windows: int = 0
    num_with_audio: int = 0
    num_with_image: int = 0

    @classmethod
    def of(cls, file: str, windows: FileEmbeddings) -> "FileRecord":
        return cls(
            file=file,
            state=windows.state,
            reason=windows.reason,
            duration_s=round(windows.duration_s, 3),
            num_windows=len(windows.start_s),
            num_with_audio=int(windows.has_audio.sum()),
            num_with_image=int(windows.has_image.sum()),
        )

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> "FileRecord":
        return cls(**{**fields, "state": ClipState(fields["state"])})


@dataclass(frozen=True)
class WindowFile:
    """An open file of embeddings; rows are read when they are asked for."""

    path: Path
    num_windows: int
    width: int
    about: dict[str, Any]
    files: tuple[FileRecord, ...]

    @classmethod
    def open(cls, path: Path) -> "WindowFile":
        """Raises WindowFileError."""
        try:
            with pq.ParquetFile(path) as file:
                schema, num_rows = file.schema_arrow, file.metadata.num_rows
            about, files = (json.loads((schema.metadata or {})[key]) for key in (ABOUT, FILES))
            records = tuple(map(FileRecord.of_json, files))
            width = int(schema.field("image").type.list_size)
            absent = [name for name in COLUMNS if name not in schema.names]
        except FileNotFoundError as error:
            raise WindowFileError(f"{path} is not there; make it with `cavsync embed`.") from error
        except (pa.ArrowException, OSError) as error:
            raise WindowFileError(f"{path} is no Parquet file: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WindowFileError(
                f"{path} is no file of `cavsync embed`: metadata or columns of such a file are missing or damaged in it."
            ) from error
        if absent:
            raise WindowFileError(
                f"{path} has no column {', '.join(absent)}; it is no file of `cavsync embed`."
            )
        return cls(path, num_rows, width, about, records)

    def require_checkpoint(self, weights: Path, about: dict[str, Any]) -> None:
        """Raises WindowFileError unless `about` is that of the checkpoint which embedded the file."""
        own, other = self.about.get("checkpoint_sha256"), about["checkpoint_sha256"]
        if own != other:
            raise WindowFileError(
                f"{self.path} was embedded by the checkpoint {self.about.get('checkpoint')} (sha256 {str(own)[:12]}...), and "
                f"{weights} is another one ({other[:12]}...): their embeddings cannot be compared. Give the same --checkpoint, "
                "or embed the videos again."
            )
        for part in ("model", "mel"):
            if self.about.get(part) != about[part]:
                raise WindowFileError(
                    f"{self.path} was embedded with other settings of the {part}: {self.about.get(part)}, and now they are "
                    f"{about[part]}. Give the same --set as for embedding."
                )

    def other_precision(self, precision: str) -> str | None:
        """A sentence where the file was embedded in another precision; its embeddings may be compared all the same."""
        own = self.about.get("precision", "float32")
        if own == precision:
            return None
        return (
            f"{self.path} was embedded in {own}, and here {precision} is used: similarities differ by up to some "
            f"thousandths. For the same give --precision {own}"
        )

    def media(self, file: str) -> Path:
        """Where a file was when it was embedded."""
        return Path(self.about.get("folder", "")) / file

    def places(self) -> pa.Table:
        """The columns file, start_s, end_s and frame_s of all windows."""
        columns = ["file", "start_s", "end_s", "frame_s"]
        return pq.read_table(self.path, columns=columns, read_dictionary=["file"])

    def vectors(self, side: Side) -> Iterable[np.ndarray]:
        """Batches (rows, D) float32 of one column, NaN where it is null. Raises WindowFileError for a NaN in the file."""
        first = 0
        with pq.ParquetFile(self.path, memory_map=True) as file:
            for batch in file.iter_batches(8192, columns=[side]):
                column: Any = batch.column(0)
                known = column.is_valid().to_numpy(zero_copy_only=False)
                found = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.width)
                broken = ~np.isfinite(found).all(axis=1)
                if broken.any():
                    row = first + int(np.flatnonzero(known)[np.flatnonzero(broken)[0]])
                    raise WindowFileError(
                        f"{self.path}, row {row}: its {side} embedding is NaN or infinite, and {int(broken.sum())} of the rows "
                        "near it are; nothing can be compared with that. Embed the videos again."
                    )
                vectors = np.full((len(known), self.width), np.nan, np.float32)
                vectors[known] = found
                yield vectors
                first += len(known)
