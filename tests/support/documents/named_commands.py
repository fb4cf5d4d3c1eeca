"""The commands of `cavsync` that texts name outside of blocks: in sentences, tables, messages, help and docstrings."""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product

from support.documents.pages import PAGES, ROOT

CODE = ("cavsync", "cli", "manifests", "model", "pipeline", "train", "benchmarks")
OTHER_TEXTS = ("*.j2", "*.toml", "*.md")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`([^`]+)`")
# Variables of style sheets look alike: `--ink: black` and `var(--ink)`.
_OPTION = re.compile(r"(?<![\w-])(?<!var\()--[a-z][a-z0-9-]*(?![\w:-])")
# In a text without backticks a command ends with its clause.
_BARE = re.compile(r"\bcavsync ([a-z][^`\n.,;:()\"]*)")


@dataclass(frozen=True)
class Text:
    """A passage that may name commands."""

    origin: str
    content: str

    def quoted(self) -> Iterator[list[list[str]]]:
        """The words of each passage in backticks, once for each choice among `one|other`."""
        for passage in _QUOTED.findall(self.content):
            words = passage.replace("\\|", "|").split()
            yield list(map(list, product(*(alternatives(word) for word in words))))

    def bare(self) -> Iterator[list[str]]:
        """The words behind each `cavsync` outside of backticks, to the end of the clause."""
        for passage in _BARE.findall(_QUOTED.sub("", self.content)):
            yield from map(list, product(*(alternatives(word) for word in passage.split())))

    def options(self, commands: Collection[str]) -> set[str]:
        """Those outside of backticks, and in the backticks of `cavsync`, of one of `commands` or of an option alone."""

        def kept(passage: re.Match[str]) -> str:
            first = (passage[1].split() or [""])[0]
            return passage[0] if first in ("cavsync", *commands) or first.startswith("-") else ""

        return set(_OPTION.findall(_QUOTED.sub(kept, self.content)))


def alternatives(word: str) -> list[str]:
    """ "audioset|folder" -> both; a word of the kind FIELD=VALUE stays whole."""
    return [word] if "=" in word else word.split("|")


def texts() -> list[Text]:
    """Every passage of the pages outside of blocks, of the changelog, of docker/, of .github/, of the Makefile and of the string literals of the code."""
    pages = [Text(page, _FENCED.sub("", (ROOT / page).read_text())) for page in (*PAGES, "CHANGELOG.md")]
    others = [
        ROOT / "Makefile",
        *sorted(path for path in (ROOT / "docker").rglob("*") if path.suffix not in ("", ".pyc")),
        *sorted((ROOT / ".github").rglob("*.yml")),
    ]
    programs = [Text(str(path.relative_to(ROOT)), path.read_text()) for path in others]
    return [*pages, *programs, *_texts_of_code()]


def _texts_of_code() -> Iterator[Text]:
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line, literal in literals(path.read_text()):
                yield Text(f"{path.relative_to(ROOT)}:{line}", literal)
        for pattern in OTHER_TEXTS:
            for path in sorted((ROOT / folder).rglob(pattern)):
                yield Text(str(path.relative_to(ROOT)), _FENCED.sub("", path.read_text()))


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Line and content of each string; what an f-string fills in reads FILLED."""
    inner: set[ast.AST] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inner |= set(node.values)
            parts = [
                part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "FILLED"
                for part in node.values
            ]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield node.lineno, node.value
