"""Finds where the links of a chained Ogg file begin: the files that were joined to it."""

from dataclasses import dataclass

from cavsync.pipeline.storage.path import MediaPath, read_range

CAPTURE = b"OggS\0"
HEADER_BYTES = 27
MOST_PAGE_BYTES = 65_307
FIRST_PAGE = 2  # the flag of a stream's first page
GRID = 16
MOST_LINKS = 200


@dataclass(frozen=True)
class OggPage:
    """Where a page lies, and of which stream it is."""

    begin: int
    is_first: bool
    stream: int
    number: int  # pages of a stream are numbered

    @classmethod
    def after(cls, source: MediaPath, position: int, stop: int) -> "OggPage | None":
        """The next page that begins in [position, stop)."""
        content = read_range(source, position, min(stop, position + MOST_PAGE_BYTES) + HEADER_BYTES)
        at = content.find(CAPTURE)
        if at < 0 or len(content) < at + HEADER_BYTES or position + at >= stop:
            return None
        stream, number = (int.from_bytes(content[at + n : at + n + 4], "little") for n in (14, 18))
        return cls(position + at, bool(content[at + 5] & FIRST_PAGE), stream, number)


def ogg_beginnings(source: MediaPath, num_bytes: int) -> list[int]:
    """The first byte of each link."""
    found = [0]
    while len(found) < MOST_LINKS:
        following = _next_link(source, found[-1], num_bytes)
        if following is None:
            break
        found.append(following)
    return found


def _next_link(source: MediaPath, begin: int, stop: int) -> int | None:
    last = _Link(source, begin, stop)
    for number in range(1, GRID + 1):
        near = stop - MOST_PAGE_BYTES if number == GRID else begin + (stop - begin) * number // GRID
        page = OggPage.after(source, max(begin, near), stop)
        if page is not None and not last.has(page):
            return last.end_before(page)
    return None


class _Link:
    """The streams of a link, and how far its pages reach as is known."""

    def __init__(self, source: MediaPath, begin: int, stop: int) -> None:
        self._source, self._stop = source, stop
        self._numbers: dict[int, int] = {}  # of the last known page of each stream
        self._reached = begin
        page = OggPage.after(source, begin, stop)
        while page is not None and page.is_first:
            self._numbers[page.stream] = page.number
            self._reached = page.begin + 1
            page = OggPage.after(source, page.begin + 1, stop)

    def has(self, page: OggPage) -> bool:
        """Whether a page further on is of this link; if it is, the link reaches that far."""
        known = self._numbers.get(page.stream)
        if (page.is_first and page.begin > self._reached) or known is None or page.number < known:
            return False
        self._numbers[page.stream] = page.number
        self._reached = max(self._reached, page.begin + 1)
        return True

    def end_before(self, page: OggPage) -> int | None:
        """The first byte of the next link, which `page` is of, or one further on."""
        while page.begin - self._reached > MOST_PAGE_BYTES:
            middle = OggPage.after(self._source, (self._reached + page.begin) // 2, page.begin)
            if middle is None:
                break
            page = page if self.has(middle) else middle
        following = OggPage.after(self._source, self._reached, self._stop)
        while following is not None and not following.is_first:
            following = OggPage.after(self._source, following.begin + 1, self._stop)
        return None if following is None else following.begin
