"""A page of cavsync as its elements, and the rules that every page keeps."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

VOID = {"meta", "img", "br", "path", "circle", "rect", "polyline"}
ADDRESSES = ("src", "href", "poster")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    inside: tuple["Element", ...]  # the outermost first
    text: str = ""

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    def is_in(self, *classes_or_tags: str) -> bool:
        return any(
            outer.tag in classes_or_tags or outer.classes & {*classes_or_tags} for outer in self.inside
        )


@dataclass
class Page(HTMLParser):
    """The elements in the order of the page; one that is not closed, or closed twice, is an error."""

    content: str
    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.content)
        self.close()
        assert not self.open, f"<{self.open[-1].tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [one for one in self.elements if one.tag in tags]


def sound_page(path: Path) -> Page:
    """The page at `path`, which keeps every rule."""
    page = Page(path.read_text())
    headings = [(f"#{one.attributes['id']}", one.text) for one in page.all("h2")]
    assert [(one.attributes["href"], one.text) for one in page.all("a") if one.is_in("nav")] == headings
    assert len(page.all("h1")) == len(page.all("main")) == 1
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len({*ids})
    for image in page.all("img"):
        assert image.attributes["alt"], image.inside
        assert image.is_in("figure", "card", "player", "strip", "timeline", "asked"), image.inside
    _check_players(page)
    for chart in page.all("svg"):
        assert chart.attributes["aria-label"]
        assert chart.is_in("figure")
    for table in page.all("table"):
        assert table.inside[-1].classes >= {"scroll"}
        assert {"tabindex", "aria-label"} <= {*table.inside[-1].attributes}
    for header in page.all("th"):
        assert header.attributes["scope"]
    _check_addresses(page)
    return page


def _check_players(page: Page) -> None:
    """A video has a frame as its poster; audio follows the image of what it plays, in one box."""
    for player in page.all("video", "audio"):
        assert player.attributes["preload"] in ("none", "metadata")
        assert player.attributes["aria-label"]
        if player.tag == "video":
            assert player.attributes["poster"].startswith("data:image/jpeg")
        else:
            assert any(one.inside[: len(player.inside)] == player.inside for one in page.all("img"))


def _check_addresses(page: Page) -> None:
    for element in page.elements:
        for name in ADDRESSES:
            url = urlsplit(element.attributes.get(name, ""))
            assert url.scheme in ("", "data"), (element.tag, url.geturl()[:80])
            assert not url.netloc
    assert not page.all("link", "iframe")
    assert not re.search(r"url\(|@import", " ".join(style.text for style in page.all("style")))
