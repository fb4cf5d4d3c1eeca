"""The HTML page of a search: a thumbnail for each hit, whose player starts there.

Thumbnails are in the page; players read the files where they are, by paths relative to the page.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import SegmentRequest
from cavsync.train.embedding.window_file import WindowFile
from cavsync.train.inference.search import Hit, SearchResults
from cavsync.train.reporting.inputs import ResultInputs
from cavsync.train.reporting.page import data_url, write_page

THUMBNAIL_PX = 224
# Around the best instant; a frame is on screen for less.
READ_S = 1.0


@dataclass(frozen=True)
class HitCard:
    """A hit as the page shows it."""

    hit: Hit
    address: str  # of the file, from the page, with the span
    thumbnail: str | None  # data URL; None for audio, and for a file that cannot be read any more
    problem: str | None

    @property
    def span(self) -> str:
        return f"{clock(self.hit.start_s)} - {clock(self.hit.end_s)}"


def write_search_page(
    found: SearchResults, file: WindowFile, path: Path, inputs: ResultInputs | None = None
) -> None:
    with DecoderProcess() as decoder:
        cards = [_card(hit, file.media(hit.file), path, decoder) for hit in found.hits]
    name, query = found.query.path.name, _address(found.query.path, path)
    among = f"{found.num_windows:,} windows of {len(file.files)} files, in {found.seconds:.2f} s"
    title, lead = f"Search by {found.query.kind}", f"{name} among {among}"
    write_page("search.html.j2", path, title, lead, inputs, found=found, cards=cards, query=query)


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


def _card(hit: Hit, medium: Path, page: Path, decoder: DecoderProcess) -> HitCard:
    address = f"{_address(medium, page)}#t={hit.start_s:.2f},{hit.end_s:.2f}"
    try:
        jpeg = thumbnail(hit, medium, decoder)
    except MediaError as error:
        return HitCard(hit, address, None, f"{error.state}: {error}")
    return HitCard(hit, address, None if jpeg is None else data_url(jpeg, "image/jpeg"), None)


def _address(target: Path, page: Path) -> str:
    return quote(os.path.relpath(target.absolute(), page.absolute().parent))
