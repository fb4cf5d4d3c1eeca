"""Makes and finds the Arrow file that holds the index of a role's clips.

It lies in the dataset's folder, `mapped/<role>.arrow`, or in the user's cache where that folder cannot be written. It
is made from the Parquet files in index/ when it is first needed, and again when one of them, or a done-record, has
another size or modification time than it had then.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.errors import writing_output
from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.index_row import index_schema, read_index
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.storage.atomic import AtomicWriter, remove_temporaries
from cavsync.pipeline.storage.lock import exclusively
from cavsync.train.data.index.checks import ShardError, make_again

# Raised with any change of what the file holds, so that a file of another version is made again.
FORMAT = 2
FACTS = b"cavsync"
# Of a record batch, whose columns are in memory while the file is made.
MAX_ROWS = 65_536
COPIED = (
    *("key", "labels", "frame_pts_s", "num_mel_rows", "frame_offset", "frame_size"),
    *("mel_offset", "mel_size", "json_offset", "json_size", "audio_offset", "audio_size", "crc32"),
)
# Null where a clip has no audio file; the mapped file says 0.
_OF_AUDIO = ("audio_offset", "audio_size")
# Any: the stubs of pyarrow know no common type of fields.
_FIELDS: list[Any] = [
    *[index_schema().field(name) for name in COPIED],
    pa.field("shard", pa.int32()),  # its place in the facts' list
]


class IndexPart(NamedTuple):
    """A shard, and what shows that its index and its done-record have not changed."""

    shard: str
    index_bytes: int
    index_mtime_ns: int
    done_bytes: int
    done_mtime_ns: int


def index_file(dataset: Dataset, role: str) -> Path:
    """The file for the clips in state ok of the splits of `role`; made where there is none that is up to date.

    Of several processes that need it at once one makes it. Raises DatasetError where no clip is usable, or where no
    folder can be written.
    """
    parts = [_part(dataset.paths, shard) for shard in dataset.shard_names(role)]
    files = [folder / f"{role}.arrow" for folder in _folders(dataset.paths)]
    found = next((file for file in files if _is_of(file, parts)), None)
    return found or _made(dataset, role, files, parts)


def read_facts(schema: pa.Schema) -> dict[str, Any]:
    """What the file says besides its rows: format, parts and tar_bytes, the last two in the shards' order."""
    facts: dict[str, Any] = json.loads((schema.metadata or {})[FACTS])
    return facts


def _part(paths: DatasetPaths, shard: str) -> IndexPart:
    try:
        index, done = (os.stat(str(file(shard))) for file in (paths.index, paths.done))
    except FileNotFoundError as error:
        raise ShardError(
            f"{error.filename} is gone, but the dataset lists its shard. {make_again(paths.done(shard))}"
        ) from error
    return IndexPart(shard, index.st_size, index.st_mtime_ns, done.st_size, done.st_mtime_ns)


def _folders(paths: DatasetPaths) -> Iterator[Path]:
    """Where the file may lie, in order of preference."""
    root = Path(str(paths.root)).resolve()
    name = f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}"
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    yield root / "mapped"
    yield Path(cache, "cavsync", "mapped", name)
    yield Path(tempfile.gettempdir(), f"cavsync-{os.getuid()}", "mapped", name)


def _is_of(file: Path, parts: Sequence[IndexPart]) -> bool:
    """Whether the file is whole and was made from `parts`."""
    try:
        with pa.memory_map(str(file)) as mapped:
            facts = read_facts(pa.ipc.open_file(mapped).schema)
    except (OSError, pa.ArrowException, KeyError, ValueError):  # not there, or something else
        return False
    return facts.get("format") == FORMAT and facts.get("parts") == [list(part) for part in parts]


def _made(dataset: Dataset, role: str, files: Sequence[Path], parts: Sequence[IndexPart]) -> Path:
    refusals: list[OSError] = []
    for file in files:
        try:
            with writing_output(file):
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            with exclusively(file.parent):
                if not _is_of(file, parts):  # another process may have made it by now
                    remove_temporaries([file.parent])
                    _write(dataset, role, file, parts)
        except OSError as error:
            refusals.append(error)
        else:
            return file
    raise DatasetError(
        f"The index of {dataset.paths.root} is mapped from a file, and none can be written: "
        f"{' '.join(map(str, refusals))} Set XDG_CACHE_HOME to a folder with room for it, .5 kB a clip."
    )


def _write(dataset: Dataset, role: str, file: Path, parts: Sequence[IndexPart]) -> None:
    paths = dataset.paths
    tar_bytes = [DoneRecord.from_json(paths.done(part.shard).read_bytes()).tar_bytes for part in parts]
    facts = {"format": FORMAT, "parts": parts, "tar_bytes": tar_bytes}
    schema = pa.schema(_FIELDS, metadata={FACTS: json.dumps(facts).encode()})
    num_rows = 0
    with AtomicWriter(file) as output:
        with pa.ipc.new_file(output.file, schema) as writer:
            for table in _batched(_rows(paths, number, part.shard) for number, part in enumerate(parts)):
                writer.write_batch(table.cast(schema).combine_chunks().to_batches()[0])
                num_rows += len(table)
        if not num_rows:
            raise dataset.no_usable_clip(role)
        output.publish()


def _rows(paths: DatasetPaths, number: int, shard: str) -> pa.Table:
    """The clips of one shard that are in state ok, with the columns of the file."""
    is_usable = [("state", "=", ClipState.OK)]
    read = read_index(paths, shard, [*COPIED, "state"], is_usable)
    columns = [pc.fill_null(read[name], 0) if name in _OF_AUDIO else read[name] for name in COPIED]
    copied = pa.table(columns, names=COPIED)
    return copied.append_column("shard", pa.repeat(pa.scalar(number, pa.int32()), len(read)))


def _batched(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about MAX_ROWS, none of them empty."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= MAX_ROWS:
            yield pa.concat_tables(held)
            held = []
    if sum(map(len, held)):
        yield pa.concat_tables(held)
