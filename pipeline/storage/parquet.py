"""Reads Parquet files that a dataset consists of, with an error that names the damaged file and the way out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.path import AnyPath, readable

# pyarrow loads with the first file: the decoder process imports this module and reads none.
if TYPE_CHECKING:
    import pyarrow as pa


class DamagedFileError(CavsyncError):
    """A file is there, and its content cannot be read."""


def read_table(
    path: AnyPath,
    way_out: str,
    columns: Sequence[str] | None = None,
    filters: list[Any] | None = None,
    *,
    schema: "pa.Schema | None" = None,
) -> "pa.Table":
    """The table, or some columns of the rows that pass the filters. Raises DamagedFileError, which ends with `way_out`.

    With a schema it has the schema's columns, null where the file lacks one; without it, the file's.
    """
    import pyarrow.parquet as pq

    with damage_named(path, way_out):
        wanted = None if columns is None else [*columns]
        return pq.read_table(readable(path), columns=wanted, filters=filters, schema=schema)


def read_schema(path: AnyPath, way_out: str) -> "pa.Schema":
    """Raises DamagedFileError, which ends with `way_out`."""
    import pyarrow.parquet as pq

    with damage_named(path, way_out):
        return pq.read_schema(readable(path))


@contextmanager
def damage_named(path: AnyPath, way_out: str) -> Iterator[None]:
    """Turn pyarrow's errors about the content into DamagedFileError; those of a disk or store pass."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, CavsyncError) or getattr(error, "errno", None) is not None:
            raise
        raise DamagedFileError(f"{path} is no Parquet file, or a damaged one. {way_out}") from error
