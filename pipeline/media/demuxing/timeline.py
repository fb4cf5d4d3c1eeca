"""Opens a media file, and lays the files that were joined to it end to end: time goes on where the next one begins.

A player does the same. Each part is opened as a file of its own, so nothing else in the reader knows of joined files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av.error

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.deadline import Deadline
from cavsync.pipeline.media.demuxing.declared_sizes import avi_beginnings, matroska_beginnings
from cavsync.pipeline.media.demuxing.file_part import FilePart, TimedPart, tables_after
from cavsync.pipeline.media.demuxing.ogg_chain import ogg_beginnings
from cavsync.pipeline.media.demuxing.opened_file import message
from cavsync.pipeline.media.demuxing.restarts import restarts
from cavsync.pipeline.storage.member_file import MemberError
from cavsync.pipeline.storage.path import MediaPath, as_path, num_bytes

# Formats of which one file after another is a file. Of the others a player reads the first one.
BY_CONTENT = {"matroska,webm": matroska_beginnings, "avi": avi_beginnings, "ogg": ogg_beginnings}
BY_TIMES = {"mpegts", "mpeg"}
# The end of a part is read from there on, to know when it ends.
TAIL_S = 3.0
# Where a part may last any time, the demuxer goes to its last keyframe.
UNKNOWN_S = 1e6
MOST_KNOWN = 64

Timeline = tuple[TimedPart, ...]
_known: dict[tuple[str, int, int], Timeline] = {}


@contextmanager
def open_container(
    source: str | MediaPath, deadline: Deadline, *, audio_only: bool = False
) -> Iterator[Container]:
    """The file, or the first of the files that were joined, closed at the end; `audio_only` leaves its video stream aside.

    Raises MediaError for a file that no demuxer reads, also from within; StoreError where a store fails.
    """
    where = as_path(source)
    try:
        with Container(where, deadline, audio_only) as container:
            timeline = _timeline(where, container)
            if not timeline:
                yield container
                return
        with Container(timeline[0].part, deadline, audio_only) as container:
            container.timeline = timeline
            yield container
    except FileNotFoundError as error:
        raise MediaError(ClipState.MISSING, f"{source} is not there") from error
    except MemberError as error:
        raise MediaError(ClipState.DECODE_ERROR, str(error)) from error
    except av.error.ExitError as error:  # reading itself took too long
        raise deadline.passed() from error
    except av.error.FFmpegError as error:
        raise MediaError(ClipState.DECODE_ERROR, message(error)) from error


def _timeline(where: MediaPath, container: Container) -> Timeline:
    """The parts of a file that was joined, kept for its next clips; empty for one that was not."""
    if container.format_name not in BY_TIMES and container.format_name not in BY_CONTENT:
        return ()
    size = num_bytes(where)
    key = (str(where), size, where.stat().st_mtime_ns if isinstance(where, Path) else 0)
    if key not in _known:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        with Container(where, container.deadline) as whole:  # with its video
            _known[key] = tuple(_timed(_parts(where, size, whole), container.deadline))
    return _known[key]


def _parts(where: MediaPath, size: int, container: Container) -> list[FilePart]:
    name = container.format_name
    begins = [0, *restarts(container, size)] if name in BY_TIMES else BY_CONTENT[name](where, size)
    if len(begins) == 1:
        return []
    spans = zip(begins, [*begins[1:], size], strict=True)
    return [
        FilePart(where, first, stop, name, tables_after(where, first, stop) if name == "mpegts" else b"")
        for first, stop in spans
    ]


def _timed(parts: list[FilePart], deadline: Deadline) -> list[TimedPart]:
    """The parts, as far as they can be read. The first packet of one follows the last one of its stream before."""
    timed: list[TimedPart] = []
    ends_s: dict[str, float] = {}  # of each type of stream
    for part in parts:
        try:
            with Container(part, deadline) as container:
                kind, first_s = _first(container)
                offset_s = ends_s.get(kind, max(ends_s.values())) - first_s if ends_s else 0.0
                ends_s = {name: end_s + offset_s for name, end_s in _ends_s(container).items()}
                begin_s, end_s = container.origin_s + offset_s, max(ends_s.values())
        except av.error.ExitError:
            raise
        except (MediaError, av.error.FFmpegError) as error:
            deadline.check()
            reason = message(error) if isinstance(error, av.error.FFmpegError) else error.reason
            rest = f"the file that was joined at byte {part.first:,} cannot be read: {reason}"
            return [*timed[:-1], *(replace(one, unread=rest) for one in timed[-1:])]
        timed.append(TimedPart(part, offset_s, begin_s, end_s))
    return timed


def _first(container: Container) -> tuple[str, float]:
    """The type of stream of the first packet, and when that is decoded."""
    for packet in container.packets():
        if packet.dts is not None:
            return packet.stream.type, float(packet.dts * packet.time_base)
    raise MediaError(ClipState.DECODE_ERROR, "it has no packet with a time")


def _ends_s(container: Container) -> dict[str, float]:
    """For each type of stream when its last packet has been decoded."""
    length_s, ends_s = container.header_duration_s or UNKNOWN_S, dict[str, float]()
    for at_s in (container.origin_s + length_s - TAIL_S, None) if length_s > TAIL_S else (None,):
        if container.enter(at_s):
            for packet in container.packets():
                if packet.dts is not None:
                    kind, end = packet.stream.type, packet.dts + (packet.duration or 0)
                    ends_s[kind] = max(ends_s.get(kind, 0.0), float(end * packet.time_base))
        if ends_s:
            break
    return ends_s
