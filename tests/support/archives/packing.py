"""Packs files into archives of each kind, whole or damaged."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Contents = Mapping[str, bytes]  # name in the archive -> content
TIME = 1_600_000_000
# The beginning of a deflate block that is the last one and of type 3, which is none.
BAD_BLOCK = b"\x07"


def tar_bytes(contents: Contents, links: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """`links` come first."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for link in links:
            archive.addfile(link)
        for name, content in contents.items():
            archive.addfile(member(name, size=len(content)), io.BytesIO(content))
    return packed.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", *, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, target, size, TIME
    return info


def write_tar(path: Path, contents: Contents) -> None:
    path.write_bytes(tar_bytes(contents))


def write_tar_gz(path: Path, contents: Contents) -> None:
    path.write_bytes(gzip.compress(tar_bytes(contents), 6, mtime=0))


def packed_in_parts(content: bytes, at: int) -> tuple[bytes, bytes]:
    """One gzip stream; the deflate blocks of the content after `at` begin at a whole byte, and refer to nothing before it."""
    packer = zlib.compressobj(6, wbits=zlib.MAX_WBITS | 16)
    first = packer.compress(content[:at]) + packer.flush(zlib.Z_FULL_FLUSH)
    return first, packer.compress(content[at:]) + packer.flush()


def write_zip(path: Path, contents: Contents, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)


def write_deflated_zip(path: Path, contents: Contents) -> None:
    write_zip(path, contents, zipfile.ZIP_DEFLATED)


# Name of an archive -> what writes it.
WRITERS: Mapping[str, Callable[[Path, Contents], None]] = {
    "0.tar": write_tar,
    "1.tar.gz": write_tar_gz,
    "2.TGZ": write_tar_gz,
    "3.zip": write_zip,
    "4.zip": write_deflated_zip,
}
