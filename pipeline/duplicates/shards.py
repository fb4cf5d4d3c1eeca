"""The fingerprints of a dataset, made shard by shard and kept, so that a later run reads what is there."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from cavsync.pipeline.dataset.done_record import finished_record
from cavsync.pipeline.dataset.index_row import IndexRow, index_rows, read_index
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, DatasetError, read_clip
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.duplicates.fingerprints import (
    ClipFingerprint,
    Fingerprints,
    fingerprint,
    joined,
    read_fingerprints,
    write_fingerprints,
)
from cavsync.pipeline.jobs.processes import mapping
from cavsync.pipeline.storage.path import AnyPath

# Part of the files' names: fingerprints that were computed otherwise are not read.
VERSION = 1


@dataclass(frozen=True)
class ShardFingerprints:
    """The task of one shard: its clips in state ok become a file in `folder`, named by the content of the shard."""

    paths: DatasetPaths
    shard: str
    folder: AnyPath

    def run(self) -> AnyPath:
        """The file; it is made unless it is there."""
        record = finished_record(self.paths, self.shard)
        if record is None:
            raise DatasetError(f"{self.paths.tar(self.shard)} is not there or not whole. {self._way_out}")
        path = self.folder / f"{self.shard}-{record.tar_sha256[:16]}-v{VERSION}.parquet"
        if not path.is_file():
            usable = read_index(self.paths, self.shard, filters=[("state", "=", ClipState.OK)])
            rows = index_rows(usable.append_column("shard", pa.repeat(self.shard, len(usable))))
            write_fingerprints(path, [self._fingerprint(row) for row in rows])
        return path

    def _fingerprint(self, row: IndexRow) -> ClipFingerprint:
        try:
            return fingerprint(row, read_clip(self.paths, row))
        except (ValueError, OSError, EOFError) as error:
            if getattr(error, "errno", None) is not None:  # of the disk or store, not of the content
                raise
            raise DatasetError(
                f"{row.key} in {self.paths.tar(self.shard)} cannot be read: {error}. {self._way_out}"
            ) from error

    @property
    def _way_out(self) -> str:
        return f"`cavsync data validate {self.paths.root} --fix` removes damaged shards; then repeat the prepare command."


def dataset_fingerprints(
    dataset: Dataset,
    role: str,
    folder: AnyPath,
    workers: int = 1,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> Fingerprints:
    """Those of the clips in state ok of the splits of `role`, made or read; `on_shard` gets (done, all).

    Raises DatasetError for a damaged shard, or where no clip is in state ok.
    """
    tasks = [ShardFingerprints(dataset.paths, shard, folder) for shard in dataset.shard_names(role)]
    parts = []
    on_shard(0, len(tasks))
    with mapping(workers) as apply:
        for path in apply(ShardFingerprints.run, tasks):
            parts.append(read_fingerprints(path))
            on_shard(len(parts), len(tasks))
    if not any(map(len, parts)):
        raise dataset.no_usable_clip(role)
    return joined(parts)
