"""Proves that make works in a folder whose path has a space."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("cavsync", "cli", "manifests", "model", "pipeline", "train")


def test_the_links_for_tools_are_made_in_a_folder_with_a_space(tmp_path: Path) -> None:
    copy = tmp_path / "a folder"
    copy.mkdir()
    shutil.copy(ROOT / "Makefile", copy)
    for folder in FOLDERS:
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").touch()
    for _ in range(2):  # the second time the links are there already
        subprocess.run(["make", "typing"], cwd=copy, check=True, capture_output=True)
    linked = copy / "build" / "typing" / "cavsync"
    assert (linked / "__init__.py").resolve() == copy / "cavsync" / "__init__.py"
    for folder in FOLDERS[1:]:
        assert (linked / folder / "__init__.py").resolve() == copy / folder / "__init__.py"
