"""A self-contained HTML page: figures beside their chance level, pictures, galleries."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader

from cavsync.pipeline.place import write_atomically


@dataclass(frozen=True)
class Score:
    """One figure of the table, under a name that no other figure of its evaluation has; NaN is undefined."""

    name: str
    value: float
    chance: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    unit: str = "%"  # "" for a number without one
    digits: int = 1  # shown after the point; of a chance level one more

    @property
    def shown(self) -> str:
        """For people."""
        return self._shown(self.value, self.digits)

    @property
    def shown_chance(self) -> str:
        return "" if self.chance is None else self._shown(self.chance, self.digits + 1)

    @property
    def shown_interval(self) -> str:
        return "" if self.low is None else f"{self.low:.{self.digits}f} - {self.high:.{self.digits}f}"

    def _shown(self, value: float, digits: int) -> str:
        return "undefined" if math.isnan(value) else f"{value:.{digits}f} {self.unit}".rstrip()


@dataclass(frozen=True)
class Picture:
    png: bytes
    caption: str


@dataclass(frozen=True)
class Media:
    """A clip to look at: some of its frames (JPEG), or its log-mel (PNG)."""

    title: str
    frames: Sequence[bytes] = ()
    mel: bytes | None = None


@dataclass(frozen=True)
class Query:
    """A query and its best answers, the best first."""

    media: Media
    rank: int  # of the right answer, 1 is best
    answers: Sequence[tuple[Media, float, bool]]  # the clip, its score, whether it is the right one


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first column is text, and so is the last where `note` says so."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: bool = False


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    pictures: Sequence[Picture] = ()
    queries: Sequence[Query] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Report:
    title: str
    lead: str
    scores: Sequence[Score]
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]]  # what was run: name and value


def write_report(report: Report, path: Path) -> None:
    environment = Environment(
        loader=PackageLoader("cavsync.train.evaluation", "."), autoescape=True, trim_blocks=True
    )
    environment.filters["png"] = lambda content: data_url(content, "image/png")
    environment.filters["jpeg"] = lambda content: data_url(content, "image/jpeg")
    page = environment.get_template("report.html.j2").render(report=report)
    write_atomically(path, page.encode())


def data_url(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
