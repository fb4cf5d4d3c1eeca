"""Lists the members of a tar by its headers, and goes on after a damaged one."""

import posixpath
import tarfile
from typing import Any

from cavsync.pipeline.archives.content import NO_FILE, MemberCollector, MemberRow, Storage

BLOCK = 512
# Where a header has the name of the format.
MAGIC, MAGIC_AT = b"ustar", 257
SEARCHED_BYTES = 4 * 2**20


class NoTarError(Exception):
    """The file does not begin like a tar."""


def read_tar(file: Any, storage: Storage, collector: MemberCollector) -> str | None:
    """Collect the members of an open tar; returns where it is damaged. Raises NoTarError.

    After a header that is damaged, the next one that is whole is looked for. Tars that were joined are read as one.
    """
    damage: str | None = None
    position: int | None = 0
    while position is not None:
        end, fault = _read_members(file, position, storage, collector)
        position, fault_after = (None, fault) if fault else _after(file, end)
        damage = damage or fault_after
    return damage


def _read_members(
    file: Any, position: int, storage: Storage, collector: MemberCollector
) -> tuple[int, str | None]:
    """Where the members from `position` on end, and what is wrong if the file ends within one."""
    file.seek(position)
    last = ""
    try:
        tar: Any = tarfile.TarFile(fileobj=file, errors="surrogateescape")
    except tarfile.ReadError as error:
        if position == 0:
            raise NoTarError from error
        return position, None
    member = tar.next()
    while member is not None:
        last = member.name
        _collect(member, storage, collector)
        tar.members = []  # it keeps them all otherwise
        try:
            member = tar.next()
        except tarfile.ReadError as error:
            if "end of data" in str(error):
                return tar.offset, f"it ends inside its member {last!r}; those after it are not there"
            break
    return tar.offset, None


def _after(file: Any, end: int) -> tuple[int | None, str | None]:
    """The next header after the place where members end, and what is wrong with that place."""
    file.seek(end)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        return None, f"it ends at byte {end + len(block):,} without an end marker, so that it may be cut off"
    is_end = not block.strip(b"\0")
    following = _next_header(file, end + BLOCK)
    if is_end:
        return following, None
    return following, f"the header at byte {end:,} is damaged, so that a member or more may be lacking"


def _next_header(file: Any, position: int) -> int | None:
    """The next header that is whole; where a packed tar is damaged, headers may lie at any byte after that."""
    while True:
        file.seek(position)
        content: bytes = file.read(SEARCHED_BYTES)
        at = content.find(MAGIC)
        while at >= 0:
            begin = at - MAGIC_AT
            if begin >= 0 and _is_header(content[begin : begin + BLOCK]):
                return position + begin
            at = content.find(MAGIC, at + 1)
        if len(content) < SEARCHED_BYTES:
            return None
        position += SEARCHED_BYTES - BLOCK


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _collect(member: tarfile.TarInfo, storage: Storage, collector: MemberCollector) -> None:
    if member.isreg() and not member.issparse():
        collector.file(MemberRow(member.name, storage, member.offset_data, member.size))
    elif member.islnk():
        collector.link(member.name, member.linkname)
    elif member.issym():
        collector.link(member.name, _symbolic_target(member))
    elif not member.isdir():
        collector.leave_out(NO_FILE, member.name)


def _symbolic_target(member: tarfile.TarInfo) -> str:
    """The path in the archive that a symbolic link leads to; one that leads out begins with ../ or /."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
