"""The HTML page of a search: a player for each hit, which starts there and shows a frame, or the log-mel of audio.

These posters are in the page; players read the files where they are, by paths relative to the page.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import SegmentRequest
from cavsync.pipeline.media.mel import FRAME_SAMPLES, log_mel
from cavsync.train.embedding.windows.window_file import WindowFile
from cavsync.train.inference.search.hits import Hit, SearchResults
from cavsync.train.inference.search.query import SearchQuery
from cavsync.train.reporting.inputs import ResultInputs
from cavsync.train.reporting.page import write_page
from cavsync.train.reporting.plots import mel_strip

THUMBNAIL_PX = 224
# Around the best instant; a frame is on screen for less.
READ_S = 1.0
# Of the query's audio, whose log-mel is shown.
QUERY_S = 10.0


@dataclass(frozen=True)
class HitCard:
    """A hit as the page shows it."""

    hit: Hit
    address: str  # of the file, from the page, with the span
    poster: bytes | None  # JPEG; None for a file that cannot be read any more
    is_audio: bool
    problem: str | None = None

    @property
    def span(self) -> str:
        return f"{clock(self.hit.start_s)} - {clock(self.hit.end_s)}"


def write_search_page(
    found: SearchResults, file: WindowFile, path: Path, inputs: ResultInputs | None = None
) -> None:
    with DecoderProcess() as decoder:
        cards = [_card(hit, file.media(hit.file), path, decoder) for hit in found.hits]
        query = _query(found.query, path, decoder)
    among = f"{found.num_windows:,} windows of {len(file.files)} files, in {found.seconds:.2f} s"
    title, lead = f"Search by {found.query.kind}", f"{found.query.path.name} among {among}"
    write_page("search.html.j2", path, title, lead, inputs, cards=cards, query=query)


def clock(seconds: float) -> str:
    """1:02:03.4"""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{rest // 10:02d}.{rest % 10}"


def thumbnail(hit: Hit, medium: Path, decoder: DecoderProcess) -> bytes | None:
    """A JPEG of the hit's best instant; None for audio. Raises MediaError for a file that cannot be read any more."""
    segment = decoder.read(SegmentRequest(medium, hit.best_s, READ_S, (hit.best_s,), THUMBNAIL_PX))
    return segment.frames[0] if segment.frames else None


def audio_poster(medium: Path, start_s: float, duration_s: float, decoder: DecoderProcess) -> bytes:
    """The log-mel of a span of a file, as a JPEG. Raises MediaError for a file that cannot be read any more."""
    waveform = decoder.read(SegmentRequest(medium, start_s, duration_s)).waveform
    return mel_strip(log_mel(np.pad(waveform, (0, max(0, FRAME_SAMPLES - len(waveform))))))


def _card(hit: Hit, medium: Path, page: Path, decoder: DecoderProcess) -> HitCard:
    address = f"{_address(medium, page)}#t={hit.start_s:.2f},{hit.end_s:.2f}"
    try:
        frame = thumbnail(hit, medium, decoder)
        if frame is not None:
            return HitCard(hit, address, frame, is_audio=False)
        strip = audio_poster(medium, hit.start_s, hit.end_s - hit.start_s, decoder)
        return HitCard(hit, address, strip, is_audio=True)
    except MediaError as error:
        return HitCard(hit, address, None, is_audio=False, problem=f"{error.state}: {error}")


def _query(query: SearchQuery, page: Path, decoder: DecoderProcess) -> dict[str, Any]:
    """What the template shows of it: its address, and the poster of its player."""
    address = _address(query.path, page)
    poster = None if query.kind == "image" else _query_poster(query, decoder)
    return {"kind": query.kind, "name": query.path.name, "address": address, "poster": poster}


def _query_poster(query: SearchQuery, decoder: DecoderProcess) -> bytes | None:
    """None where a video shows nothing in its first seconds."""
    if query.kind == "audio":
        return audio_poster(query.path, 0.0, QUERY_S, decoder)
    instants_s = tuple(np.arange(0, QUERY_S, READ_S).tolist())
    shown = decoder.read(SegmentRequest(query.path, 0.0, QUERY_S, instants_s, THUMBNAIL_PX)).shown
    return shown[0][1] if shown else None


def _address(target: Path, page: Path) -> str:
    return quote(os.path.relpath(target.absolute(), page.absolute().parent))
