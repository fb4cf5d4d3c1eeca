"""`cavsync embed`: many files to one Parquet file, each file's result kept as soon as it is there.

Results lie in `<out>.parts/` until all are done, so the same command continues where it stopped; a part's name holds the
file, its size and time, and the checkpoint. They are written where they are made: nothing big passes through Ray.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cavsync.errors import writing_output
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.jobs.work import Workers
from cavsync.pipeline.storage.writable import require_writable_file
from cavsync.train.choices import InferencePrecision
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder, OnSecond
from cavsync.train.embedding.windows.window_file import FileRecord, WindowFile
from cavsync.train.embedding.windows.writing import (
    as_table,
    read_part,
    require_own_file,
    write_part,
    write_window_file,
)

# torch, a model of the paper's size and a batch; Ray places no more workers on a node than this fits into.
WORKER_BYTES = 2 * 2**30

OnFile = Callable[[FileRecord, int, int], None]  # files done, files in all


@dataclass(frozen=True, kw_only=True)
class EmbedderSpec:
    """How a worker opens its model."""

    weights: Path
    step_s: float | None
    device: str
    precision: InferencePrecision = "float32"
    fields: tuple[tuple[str, Any], ...] = ()  # of the model, where a published file does not tell them

    def open(self) -> Embedder:
        checkpoint = LoadedCheckpoint.load(self.weights, self.device, self.precision, **dict(self.fields))
        return Embedder(checkpoint, self.step_s)


@dataclass(frozen=True)
class EmbedFile:
    """Embeds a file in any process; its result is a part beside the output."""

    spec: EmbedderSpec
    parts: Path
    key: str  # of the checkpoint and the settings
    folder: Path  # that names of files begin in; a worker's own is another

    def __call__(self, path: Path) -> FileRecord:
        return self.run(path, *_tools(self.spec))

    def run(
        self,
        path: Path,
        embedder: Embedder,
        decoder: DecoderProcess,
        on_second: OnSecond = lambda done, total: None,
    ) -> FileRecord:
        table = None
        try:
            windows = embedder.embed(self.folder / path, decoder, on_second)
        except MediaError as error:
            record = FileRecord(file=str(path), state=error.state, reason=error.reason)
        else:
            record, table = FileRecord.of(str(path), windows), as_table(str(path), windows)
        write_part(self.part(path), record, table)
        return record

    def part(self, path: Path) -> Path:
        file = self.folder / path
        stat = file.stat() if file.is_file() else None
        identity = [self.key, str(path), stat and stat.st_size, stat and stat.st_mtime_ns]
        return self.parts / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}.parquet"


def embed_files(
    files: Sequence[Path],
    spec: EmbedderSpec,
    out: Path,
    workers: Workers,
    on_file: OnFile = lambda record, done, total: None,
    on_second: OnSecond = lambda done, total: None,
    log: Callable[[str], None] = lambda line: None,
    left_out: Sequence[Mapping[str, Any]] = (),
    source: Path | None = None,
) -> WindowFile:
    """Writes `out`, with a record for every file; a file without windows has one with the reason.

    A file that is there is replaced where its embeddings were made alike of the same `source`, or of some of the files.
    `left_out` counts what was found beside the files, for the metadata of `out`. `on_second` is called with the progress of a file where one runs at a time. Raises CavsyncError on what the user can fix.
    """
    require_writable_file(out, "give another with --out")  # before the model is loaded
    embedder = spec.open()
    # Machines of a cluster may differ in what is fast; all embed as this one does.
    spec = replace(spec, precision="bfloat16" if embedder.checkpoint.precision == "bfloat16" else "float32")
    about = {
        "checkpoint": str(embedder.checkpoint.weights),
        "source": None if source is None else str(source.absolute()),
        "folder": str(Path.cwd()),
        "left_out": list(left_out),
        "set": dict(spec.fields),
        **embedder.about,
    }
    require_own_file(out, about, [str(path) for path in files])
    key = hashlib.sha256(json.dumps(embedder.about, sort_keys=True).encode()).hexdigest()
    parts = out.absolute().with_name(f"{out.name}.parts")
    with writing_output(parts):
        parts.mkdir(parents=True, exist_ok=True)
    embed = EmbedFile(spec, parts, key, Path.cwd())
    kept = {path: part[0] for path in files if (part := read_part(embed.part(path)))}
    for done, record in enumerate(kept.values()):
        on_file(record, done + 1, len(files))
    waiting = [path for path in files if path not in kept]
    made = (
        _made_here(embed, waiting, embedder, on_second)
        if _is_here(workers)
        else _made_on_ray(embed, waiting, workers, log)
    )
    for done, record in enumerate(made):
        on_file(record, len(kept) + done + 1, len(files))
    _join(files, embed, embedder.width, out, about)
    shutil.rmtree(parts)
    return WindowFile.open(out)


def _is_here(workers: Workers) -> bool:
    return workers.number == 1 and workers.ray_address is None


def _made_here(
    embed: EmbedFile, files: Sequence[Path], embedder: Embedder, on_second: OnSecond
) -> Iterator[FileRecord]:
    with DecoderProcess() as decoder:
        for path in files:
            yield embed.run(path, embedder, decoder, on_second)


def _made_on_ray(
    embed: EmbedFile, files: Sequence[Path], workers: Workers, log: Callable[[str], None]
) -> Iterator[FileRecord]:
    from cavsync.pipeline.jobs.ray_runner import map_on_ray  # Ray takes half a second to import

    use_gpus = embed.spec.device != "cpu" and torch.cuda.is_available()
    num_gpus = min(1.0, torch.cuda.device_count() / workers.number) if use_gpus else 0.0
    for path, record in map_on_ray(embed, files, workers, WORKER_BYTES, log, num_gpus):
        if record is None:
            record = FileRecord(
                file=str(path), state=ClipState.CRASHED, reason="its worker died over it, twice"
            )
            write_part(embed.part(path), record, None)
        yield record


@cache
def _tools(spec: EmbedderSpec) -> tuple[Embedder, DecoderProcess]:
    """A worker's model and decoder, for all its files; they end with it."""
    return spec.open(), DecoderProcess()


def _join(
    files: Sequence[Path],
    embed: EmbedFile,
    width: int,
    out: Path,
    about: dict[str, Any],
) -> None:
    """The parts, in the order of the files, as one file."""
    records = []
    for path in files:
        part = read_part(embed.part(path))
        assert part is not None, f"the part of {path} was written and is gone"
        records.append(part[0])
    tables = (part[1] for path in files if (part := read_part(embed.part(path))) and part[0].num_windows)
    write_window_file(out, tables, width, about, records)
