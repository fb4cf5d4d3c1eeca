"""A self-contained HTML page: figures beside their chance level, tables, charts, images and example queries."""

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.reporting.coverage import Coverage
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.images import media_type, size_px
from cavsync.train.reporting.inputs import ResultInputs

MAX_MISSING_SHOWN = 100
# By suffix; each is a filter of the templates too.
AUDIO_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac", "opus": "audio/ogg"}


@dataclass(frozen=True)
class Score:
    """One row of the table of figures, under a name that no other figure of its evaluation has."""

    name: str
    estimate: Estimate
    note: str = ""
    digits: int = 1  # shown after the point; of a chance level one more

    @property
    def shown(self) -> str:
        """For people."""
        return self._shown(self.estimate.value, self.digits)

    @property
    def shown_chance(self) -> str:
        chance = self.estimate.chance
        return "" if chance is None else self._shown(chance, self.digits + 1)

    @property
    def shown_interval(self) -> str:
        low, high = self.estimate.low, self.estimate.high
        return "" if low is None else f"{low:.{self.digits}f} - {high:.{self.digits}f}"

    def _shown(self, value: float, digits: int) -> str:
        return "undefined" if math.isnan(value) else f"{value:.{digits}f} {self.estimate.unit}".rstrip()


@dataclass(frozen=True)
class CaptionedImage:
    content: bytes  # PNG or JPEG
    caption: str


@dataclass(frozen=True)
class ImageSet:
    """Small images that are looked at together, such as a frame and heatmaps over it, each with its own caption."""

    images: Sequence[CaptionedImage]
    caption: str


@dataclass(frozen=True)
class Chart:
    svg: str
    caption: str


@dataclass(frozen=True)
class PlayableVideo:
    """A video that the page plays: its address relative to the page, or a data URL; the poster is one of its frames."""

    address: str
    caption: str
    poster: bytes  # JPEG


@dataclass(frozen=True)
class ClipPreview:
    """A clip on a page: some of its frames (JPEG), or its audio (MP3) under its log-mel (JPEG)."""

    title: str
    frames: Sequence[bytes] = ()
    mel: bytes | None = None
    mp3: bytes | None = None
    from_mel: bool = False  # the audio was reconstructed from the log-mel, so it is not what was recorded

    def __post_init__(self) -> None:
        assert self.mp3 is None or self.mel is not None, f"the audio of {self.title} has no log-mel"


@dataclass(frozen=True)
class Answer:
    preview: ClipPreview
    score: float
    rank: int  # 1 is best
    right: bool


@dataclass(frozen=True)
class RankedQuery:
    """A query and its best answers, the best first; the right one stands last where it is not among them."""

    preview: ClipPreview
    rank: int  # of the right answer, 1 is best
    answers: Sequence[Answer]

    def all_previews(self) -> list[ClipPreview]:
        return [self.preview, *(answer.preview for answer in self.answers)]


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first column is text, and so is the last where `note` says so."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: bool = False
    faded: Sequence[int] = ()  # indices of rows that are there for orientation only
    groups: Sequence[
        tuple[str, int]
    ] = ()  # a row above the header: titles, and how many columns each is over


@dataclass(frozen=True)
class Section:
    """A part of a page with its heading; `images` are plots, drawn on white, `image_sets` are frames and maps."""

    title: str
    text: str
    images: Sequence[CaptionedImage] = ()
    queries: Sequence[RankedQuery] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    films: Sequence[PlayableVideo] = ()
    image_sets: Sequence[ImageSet] = ()


@dataclass(frozen=True)
class Report:
    title: str
    lead: str
    scores: Sequence[Score]
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]]  # what was run: name and value
    inputs: ResultInputs | None = None


@dataclass
class Contents:
    """The table of contents of a page, which grows as its headings are written."""

    entries: dict[str, str] = field(default_factory=dict)  # anchor -> heading

    def add(self, heading: str) -> str:
        """The anchor of a heading: its letters and digits, with a number where the page has it already."""
        name = "-".join(re.findall(r"[a-z0-9]+", heading.lower())) or "section"
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        anchor = next(one for one in names if one not in self.entries)
        self.entries[anchor] = heading
        return anchor


def unusable_sections(coverage: Coverage) -> list[Section]:
    """The listed items without a score, with the reasons; no section where all have one."""
    if not coverage.unusable:
        return []
    shown = coverage.unusable[:MAX_MISSING_SHOWN]
    rest = len(coverage.unusable) - len(shown)
    text = f"{coverage.num_found:,} of {coverage.num_listed:,} {coverage.kind} were found; these are in no figure above."
    if rest:
        text += f" Here are the first {len(shown)}; report.json names the {rest:,} others too."
    rows = [[one.item, one.state, one.reason] for one in shown]
    return [
        Section(
            f"{coverage.kind.capitalize()} without a score",
            text,
            tables=[Table(["item", "state", "why"], rows, note=True)],
        )
    ]


def write_report(report: Report, path: Path) -> None:
    write_page("report.html.j2", path, report.title, report.lead, report.inputs, report=report)


def write_page(
    template: str, path: Path, title: str, lead: str, inputs: ResultInputs | None = None, **content: Any
) -> None:
    """A page from a template that extends page.html.j2; bytes of media become part of the page itself.

    Its head names the `inputs`, and when it was made; beside it stand links to the headings that the template writes.
    """
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    head = {"title": title, "lead": lead, "inputs": inputs, "made": made, "contents": Contents()}
    page = _environment().get_template(template).render(**head, **content)
    write_atomically(path, page.encode())


@cache
def _environment() -> Environment:
    """The templates, each compiled once a process."""
    environment = Environment(
        loader=PackageLoader("cavsync.train.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: partial(data_url, kind=kind) for name, kind in AUDIO_TYPES.items()}
    environment.filters |= {"image": lambda content: data_url(content, media_type(content)), "size": size_px}
    return environment


def data_url(content: bytes, kind: str) -> str:
    """The bytes of a media type, such as "video/mp4", as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
