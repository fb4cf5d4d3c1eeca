"""Hooks of mkdocs: pages from outside docs/, links as they are in the site, API entries, and the tutorial as a notebook."""

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# Pages of the repository that lie outside of docs/ -> their address in the site.
OUTSIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/LOG.md": "benchmarks.md",
}
NOTEBOOK = "tutorial.ipynb"
_LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
_CODE = re.compile(r"`[^`\n]+`")  # in a table GitHub wants `a\|b`, and the site shows the backslash
_FILE_AS_TEXT = re.compile(r"\[docs/([\w-]+)\.md\]\(")  # the site has pages, not files
_API = re.compile(r"<!-- api: (\S+) (\S+) -->")
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


# Tests read this file without what only the site needs.
def on_files(files: "Files", config: Any) -> "Files":
    from mkdocs.structure.files import File

    for source, address in OUTSIDE.items():
        content = with_site_links((ROOT / source).read_text(), source)
        files.append(File.generated(config, address, content=content))
    if made_by_reader := files.get_file_from_path(NOTEBOOK):
        files.remove(made_by_reader)
    files.append(
        File.generated(config, NOTEBOOK, content=notebook((ROOT / "docs" / "tutorial.md").read_text()))
    )
    return files


def on_page_markdown(markdown: str, page: "Page", config: Any, files: "Files") -> str:
    if page.file.src_uri in OUTSIDE.values():
        return markdown
    if page.file.src_uri == "tutorial.md":
        markdown += f"\n[This page as a notebook]({NOTEBOOK})\n"
    return _API.sub(
        r"::: \1\n    options:\n      heading: \2\n      toc_label: \2\n",
        with_site_links(markdown, f"docs/{page.file.src_uri}"),
    )


def with_site_links(text: str, source: str) -> str:
    """The text of a page of the repository, with links to other pages as they are in the site; blocks stay as they are."""
    folder = posixpath.dirname(source)

    def replaced(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        address = OUTSIDE.get(target, target.removeprefix("docs/"))
        return f"{link[1]}{address}{link[3]}"

    text = _CODE.sub(lambda code: code[0].replace("\\|", "|"), text)
    parts = _FENCED.split(_FILE_AS_TEXT.sub(r"[\1](", text))
    return "".join(part if number % 2 else _LINK.sub(replaced, part) for number, part in enumerate(parts))


def notebook(page: str) -> str:
    """The page as a notebook that has not run: blocks of Python and sh are its cells, and images come from running it."""
    import jupytext
    import nbformat

    without_images = re.sub(r"^!\[.*\n", "", page, flags=re.MULTILINE)
    cells = jupytext.reads(without_images, fmt="md")
    cells.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    text: str = nbformat.writes(cells)
    return text
