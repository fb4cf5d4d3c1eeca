"""What an archive holds: a row for each member, what is left out and why, and where the archive is damaged."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from cavsync.pipeline.archives.names import is_archive_name, member_name
from cavsync.pipeline.storage.inflate import SeekPoint
from cavsync.pipeline.storage.member_path import GzipSpan, Place, StoredSpan, ZipEntry
from cavsync.pipeline.storage.path import AnyPath

# Reasons for which a member is left out.
LEADS_OUT = "a name that leads out of its archive, or cannot be written"
DEAD_LINK = "a link to no file of its archive"
NO_FILE = "no regular file in its archive"
REPLACED = "a later file of its archive has the same name"
NESTED = "an archive in an archive; unpack it"
# How the bytes of a member are stored.
Storage = Literal["stored", "zip", "zip deflated", "gzip"]
# Links to links that are followed.
MOST_LINKS = 8


class MemberRow(NamedTuple):
    """A member. `start` is that of its bytes in the archive, of its header in a zip, or in the unpacked stream."""

    name: str
    storage: Storage
    start: int
    num_bytes: int
    num_packed_bytes: int = 0
    crc: int = 0
    fault: str | None = None  # why it cannot be read


@dataclass(frozen=True)
class ArchiveContent:
    """The content of one archive, of `num_bytes` bytes."""

    num_bytes: int
    members: Sequence[MemberRow] = ()  # by name
    left_out: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (reason, suffix) -> number
    damage: str | None = None  # a sentence without the archive's name; members may be lacking
    points: Sequence[SeekPoint] = ()  # of a packed tar

    @cached_property
    def by_name(self) -> Mapping[str, MemberRow]:
        return {member.name: member for member in self.members}

    @cached_property
    def _firsts(self) -> list[int]:
        return [point.first for point in self.points]

    def place(self, member: MemberRow, windows: AnyPath) -> Place:
        """Where the member's bytes are; `windows` is the file with the windows of the seek points."""
        if member.storage == "stored":
            return StoredSpan(member.start, member.num_bytes)
        if member.storage == "gzip":
            first = max(0, bisect_right(self._firsts, member.start) - 1)
            stop = bisect_left(self._firsts, member.start + member.num_bytes, first + 1)
            return GzipSpan(member.start, member.num_bytes, tuple(self.points[first:stop]), windows)
        is_deflated = member.storage == "zip deflated"
        return ZipEntry(member.start, member.num_bytes, member.num_packed_bytes, is_deflated, member.crc)


class MemberCollector:
    """Collects the members of an archive in their order."""

    def __init__(self) -> None:
        self._members: dict[str, MemberRow] = {}
        self._links: dict[str, str] = {}
        self.left_out: Counter[tuple[str, str]] = Counter()

    def file(self, member: MemberRow) -> None:
        """A later file of a name replaces an earlier one, as when the archive is unpacked."""
        name = member_name(member.name)
        if name is None:
            self.leave_out(LEADS_OUT, member.name)
        elif is_archive_name(name):
            self.leave_out(NESTED, name)
        else:
            if name in self._members:
                self.leave_out(REPLACED, name)
            self._members[name] = member._replace(name=name)

    def link(self, raw: str, target: str) -> None:
        """`target` is a path in the archive."""
        name = member_name(raw)
        if name is None:
            self.leave_out(LEADS_OUT, raw)
        else:
            self._links[name] = target

    def leave_out(self, reason: str, name: str) -> None:
        suffix = PurePosixPath(name.rstrip()).suffix.lower().removeprefix(".")
        self.left_out[reason, suffix.encode(errors="replace").decode()] += 1

    def members(self) -> list[MemberRow]:
        """The files and the links to them, by name."""
        linked = {name: self._target(name) for name in self._links}
        for name, member in linked.items():
            if member is None:
                self.leave_out(DEAD_LINK, name)
            else:
                self._members.setdefault(name, member._replace(name=name))
        return [self._members[name] for name in sorted(self._members)]

    def _target(self, name: str) -> MemberRow | None:
        for _ in range(MOST_LINKS):
            target = member_name(self._links.get(name, name))
            if target is None:
                return None
            if target in self._members:
                return self._members[target]
            name = target
        return None
