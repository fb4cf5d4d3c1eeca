"""Opens a file, here or at a URL, with PyAV and only with the allowed demuxers, and chooses its streams."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Disposition

from cavsync.pipeline.media.demuxing.file_part import FilePart
from cavsync.pipeline.media.demuxing.formats import FORMATS
from cavsync.pipeline.storage.path import MediaPath

# A frame of 4K. A few bytes of a broken header can claim a hundred times more, and decoders believe them.
MAX_PIXELS = 4096 * 2304
OPEN_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
CODEC_OPTIONS = {"max_pixels": str(MAX_PIXELS)}


def url(path: str | Path) -> str:
    """How FFmpeg takes any path for a path, also one with a colon or a leading dash."""
    return f"file:{path}"


@contextmanager
def opened(source: MediaPath | FilePart, timeout_s: float) -> Iterator[Any]:
    """A file as PyAV opens it. Raises StoreError where a store fails, at any time, and what PyAV raises."""
    options = OPEN_OPTIONS | CODEC_OPTIONS
    begin = partial(av.open, mode="r", timeout=timeout_s, options=options, metadata_errors="replace")
    if isinstance(source, Path):
        with begin(url(source)) as media:
            yield media
        return
    if isinstance(source, FilePart):
        begin = partial(begin, format=source.format_name)
    with source.open("rb") as file:
        try:
            with begin(file) as media:
                yield media
        finally:
            # FFmpeg may take a failed read for the end of the file, and a part of the clip for all of it.
            if file.failure is not None:
                raise file.failure


def main_video(opened: Any) -> Any:
    """The stream that a player shows; cover art is no video."""
    films = [one for one in opened.streams.video if not one.disposition & Disposition.attached_pic]
    return main_stream(opened, films)


def main_stream(opened: Any, streams: list[Any]) -> Any:
    """FFmpeg's choice of the streams of one type, unless it lacks a decoder and another has one."""
    if not streams:
        return None
    best = opened.streams.best(streams[0].type)
    usable = [stream for stream in streams if stream.codec_context is not None]
    if best in usable or not usable:
        return best if best in streams else streams[0]
    return usable[0]


def indexed_end_s(stream: Any) -> float:
    """When the last packet of an AVI's index ends; infinite where that is unknown. Of audio that begins late the header
    counts the silence before it too, which no packet has."""
    entries, num = stream.index_entries, len(stream.index_entries)
    if num < 2 or not stream.duration:
        return math.inf
    last, before = entries[num - 1].timestamp, entries[num - 2].timestamp
    return float((2 * last - before) * stream.time_base)


def skipped_s(audio: Any) -> float:
    """How much audio the decoder throws away wherever decoding begins: Opus says it in its header."""
    codec, header = audio.codec_context, audio.codec_context.extradata or b""
    is_opus = codec.codec.canonical_name == "opus" and header.startswith(b"OpusHead")
    return int.from_bytes(header[10:12], "little") / 48_000 if is_opus else 0.0


def message(error: av.error.FFmpegError) -> str:
    """FFmpeg's message, and what the library logged last, without the path, which the index has."""
    log: Any = error.log  # (level, module, message)
    logged = f" ({log[2].strip()})" if log else ""
    return f"FFmpeg: {error.strerror}{logged}"
