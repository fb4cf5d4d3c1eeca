"""Proves that links of the pages lead to files and headings that are there, in the repository and in the site of `make docs`."""

import ast
import importlib.util
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from support.documents.pages import PAGES, ROOT

ALL = (*PAGES, "CHANGELOG.md", "benchmarks/LOG.md")
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


@cache
def hooks() -> ModuleType:
    """Those of mkdocs, which is not installed here."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page: str) -> str:
    """The page without its blocks."""
    return FENCED.sub("", (ROOT / page).read_text())


def links(text: str) -> list[tuple[str, str, str]]:
    """Text, file and anchor of each link to this repository: "" for the file where it is the page itself."""
    found = [
        (label, *target.partition("#")) for _, label, target in LINK.findall(text) if "://" not in target
    ]
    return [(label, file, anchor) for label, file, _, anchor in found]


def anchors(text: str) -> set[str]:
    """As GitHub makes them, and the site (mkdocs.yml): lower case, without punctuation, a hyphen for each space."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub(r"\2", heading).lower()).strip().replace(" ", "-")
        assert slug not in found, f"two headings have the anchor {slug}"
        found.add(slug)
    return found


@pytest.mark.parametrize("page", ALL)
def test_links_lead_to_files_and_headings_of_the_repository(page: str) -> None:
    for label, file, anchor in links(prose(page)):
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.is_file(), f"{page}: {file}"
        if (numbered := re.fullmatch(r"section (\d+)", label)) is not None:
            assert anchor.startswith(f"{numbered[1]}-"), f"{page}: {label} at {anchor}"
        if anchor:
            assert anchor in anchors(prose(str(target.resolve().relative_to(ROOT)))), (
                f"{page}: {file}#{anchor}"
            )


def addresses() -> dict[str, str]:
    """Page -> its address in the site."""
    outside: dict[str, str] = hooks().OUTSIDE
    return {page: outside.get(page, page.removeprefix("docs/")) for page in ALL}


@pytest.mark.parametrize("page", ALL)
def test_links_of_the_site_lead_to_its_pages_and_files(page: str) -> None:
    files = {
        *addresses().values(),
        *(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.png")),
    }
    for _, file, _ in links(hooks().with_site_links(prose(page), page)):
        assert not file or file in files, f"{page}: {file}"


def test_the_navigation_has_every_page_once() -> None:
    in_navigation = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(in_navigation) == sorted(addresses().values())


def test_every_image_has_a_description_and_is_shown() -> None:
    shown: set[Path] = set()
    for page in ALL:
        for sign, description, target in LINK.findall(prose(page)):
            if sign:
                assert len(description) > 20, f"{page}: {target}"
                shown.add((ROOT / page).parent / target)
    assert shown == set((ROOT / "docs").rglob("*.png"))


def test_lists_and_tables_begin_after_an_empty_line() -> None:
    """GitHub needs none, the site does: it would show a paragraph with asterisks."""
    item, row = re.compile(r"([*-]|\d+\.) "), re.compile(r"\|")
    for page in ALL:
        lines = prose(page).splitlines()
        for above, line in pairwise(lines):
            for kind in (item, row):
                begins = (
                    kind.match(line) and above.strip() and not kind.match(above) and not above.startswith(" ")
                )
                assert not begins, f"{page}: {line}"


def test_each_entry_of_the_python_page_is_there_and_every_public_name_has_one() -> None:
    entries = re.findall(
        r"^<!-- api: (\S+) (\S+) -->$", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE
    )
    for name, _ in entries:
        module, _, attribute = name.rpartition(".")
        file = ROOT / Path(*module.split(".")[1:]).with_suffix(".py")
        file = file if file.is_file() else ROOT / "cavsync" / file.name
        assert attribute in {getattr(node, "name", None) for node in ast.parse(file.read_text()).body}, name
    import cavsync

    headings = {heading for _, heading in entries if heading.startswith("cavsync.")}
    assert headings == {f"cavsync.{name}" for name in set(cavsync.__all__) - {"__version__"}}


def test_pages_read_in_the_site_as_on_github() -> None:
    page = "| `a\\|b` | [docs/world.md](docs/world.md#anchor), [log](benchmarks/LOG.md), [web](https://a.b/c.md) |\n"
    block = "```sh\n[x](docs/world.md)\n```\n"
    expected = "| `a|b` | [world](world.md#anchor), [log](benchmarks.md), [web](https://a.b/c.md) |\n"
    assert hooks().with_site_links(page + block, "README.md") == expected + block
    assert (
        hooks().with_site_links("[log](../benchmarks/LOG.md#x)", "docs/speed.md") == "[log](benchmarks.md#x)"
    )
