"""The fenced blocks of README, docs and the pages for developers, and the commands of `cavsync` in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    """Of the page, from 1: that of the fence."""
    language: str
    """"" where none is given."""
    text: str

    def commands(self) -> Iterator[list[str]]:
        """The arguments of each `cavsync` in a block of `sh`, also behind torchrun; without comments and redirection."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "cavsync" in words:
                stop = next((words.index(sign) for sign in (">", "|", "&&") if sign in words), None)
                yield words[words.index("cavsync") + 1 : stop]


def blocks(page: str, language: str | None = None) -> list[Block]:
    """In the order of the page; only those of `language`, if it is given."""
    text = (ROOT / page).read_text()
    found = [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]
