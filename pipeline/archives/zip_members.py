"""Lists the members of a zip by the directory at its end."""

import stat
import zipfile
from typing import Any

from cavsync.pipeline.archives.content import DEAD_LINK, MemberCollector, MemberRow, Storage

_STORAGES: dict[int, Storage] = {zipfile.ZIP_STORED: "zip", zipfile.ZIP_DEFLATED: "zip deflated"}
_ENCRYPTED = 0x1
# Methods of compression that are not read, by their number in the format.
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}


def read_zip(file: Any, collector: MemberCollector) -> str | None:
    """Collect the members of an open zip; returns where it is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        return f"the list of its members, at its end, cannot be read ({error}): it is damaged or cut off"
    for entry in entries:
        if stat.S_ISLNK(entry.external_attr >> 16):
            collector.leave_out(DEAD_LINK, entry.filename)
        elif not entry.is_dir():
            collector.file(_row(entry))
    return None


def _row(entry: zipfile.ZipInfo) -> MemberRow:
    fault = None
    if entry.flag_bits & _ENCRYPTED:
        fault = "it is encrypted; unpack the zip with its password"
    elif entry.compress_type not in _STORAGES:
        name = _OTHER_METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        fault = f"it is compressed by {name}, which is not read; unpack the zip"
    return MemberRow(
        entry.filename,
        _STORAGES.get(entry.compress_type, "zip"),
        entry.header_offset,
        entry.file_size,
        entry.compress_size,
        entry.CRC,
        fault,
    )
