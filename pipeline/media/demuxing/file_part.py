"""A range of a file's bytes that is a media file itself, as where several files were joined byte by byte."""

from dataclasses import dataclass
from typing import Any, Literal

from cavsync.pipeline.storage.path import MediaPath, read_range
from cavsync.pipeline.storage.seekable_file import SeekableFile

# Of a transport stream. Its tables come several times a second.
PACKET_BYTES, SYNC = 188, 0x47
SEARCHED_BYTES = 4 * 2**20


@dataclass(frozen=True)
class FilePart:
    """The bytes [first, stop) of a file, after a copy of what the stream says of itself only at intervals."""

    source: MediaPath
    first: int
    stop: int
    format_name: str  # of FFmpeg's demuxer
    head: bytes = b""

    def open(self, mode: Literal["rb"]) -> "PartReader":
        return PartReader(self.source.open(mode), self)


@dataclass(frozen=True)
class TimedPart:
    """A part and its place on the clock of the whole file, in seconds."""

    part: FilePart
    offset_s: float  # from the part's own clock to the whole file's
    begin_s: float
    end_s: float
    unread: str | None = None  # why nothing of the file can be read after this part


class PartReader(SeekableFile):
    """The open file of a part, seekable."""

    def __init__(self, file: Any, part: FilePart) -> None:
        super().__init__(file, len(part.head) + part.stop - part.first)
        self._part = part

    @property
    def failure(self) -> OSError | None:
        """Why a store failed, of a file at a URL."""
        return getattr(self._file, "failure", None)

    def readinto(self, buffer: Any) -> int:
        head = self._part.head
        if self._position < len(head):
            content = head[self._position : self._position + len(buffer)]
        else:
            self._file.seek(self._part.first + self._position - len(head))
            content = self._file.read(min(len(buffer), max(0, self._num_bytes - self._position)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def tables_after(source: MediaPath, first: int, stop: int) -> bytes:
    """The first two tables in [first, stop) of a transport stream, association and map, without which nothing can be read.

    Each is the packet that it lies in. Empty where there are none, or packets have another length than usual.
    """
    content = read_range(source, first, min(stop, first + SEARCHED_BYTES))
    association = None
    for at in range(0, len(content) - PACKET_BYTES + 1, PACKET_BYTES):
        packet = content[at : at + PACKET_BYTES]
        if packet[0] != SYNC:
            return b""
        begins, number = bool(packet[1] & 0x40), int.from_bytes(packet[1:3], "big") & 0x1FFF
        if begins and number == 0 and association is None:
            association = packet
        elif association is not None and begins and number == _map_number(association):
            return association + packet
    return b""


def _map_number(association: bytes) -> int | None:
    """The packet number of the first programme's map."""
    payload = association[4 + (1 + association[4] if association[3] & 0x20 else 0) :]
    section = payload[1 + payload[0] :] if payload else b""
    for at in range(8, len(section) - 4, 4):
        if any(section[at : at + 2]):  # programme 0 is the network
            return int.from_bytes(section[at + 2 : at + 4], "big") & 0x1FFF
    return None
