"""Reads what an archive holds, whatever its suffix says that it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cavsync.pipeline.archives.content import ArchiveContent, MemberCollector
from cavsync.pipeline.archives.gzip_members import read_gzip
from cavsync.pipeline.archives.tar_members import NoTarError, read_tar
from cavsync.pipeline.archives.zip_members import read_zip
from cavsync.pipeline.media.demuxing.formats import content_that_is_no_media
from cavsync.pipeline.storage.atomic import AtomicWriter
from cavsync.pipeline.storage.path import AnyPath, num_bytes, read_range
from cavsync.pipeline.storage.remote_file import RemoteFile

GZIP_MAGIC, ZIP_MAGICS = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
# Headers of a tar lie far apart, so that little is fetched for each.
HEADER_BLOCK_BYTES = 2**16
LARGE_BYTES = 2**30


def read_archive(archive: AnyPath, windows: AnyPath, announce: Callable[[str], None]) -> ArchiveContent:
    """The content; `windows` is where those of the seek points of a packed tar are kept.

    Raises FileNotFoundError where the archive is not there, and StoreError where its store fails.
    """
    size, head = num_bytes(archive), read_range(archive, 0, 4)
    if head.startswith(GZIP_MAGIC):
        if size > LARGE_BYTES:
            announce(f"Listing {archive} ({size / 1e9:,.1f} GB), which is unpacked for that once.")
        with AtomicWriter(windows) as output:
            content = read_gzip(archive, output.file)
            output.publish()
        return content
    collector = MemberCollector()
    with _opened(archive) as file:
        try:
            damage = read_zip(file, collector) if head in ZIP_MAGICS else read_tar(file, "stored", collector)
        except NoTarError:
            damage = f"it is no archive: {content_that_is_no_media(archive) or 'it does not begin like one'}"
        failure = getattr(file, "failure", None)
        if failure is not None:
            raise failure
    return ArchiveContent(size, collector.members(), dict(collector.left_out), damage)


def _opened(archive: AnyPath) -> Any:
    if isinstance(archive, Path):
        return archive.open("rb")
    return RemoteFile(archive.url, archive.name, HEADER_BLOCK_BYTES)
