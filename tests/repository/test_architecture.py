"""Proves the shape of the code: imports point one way, every package ships, and `--help` stays light."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A folder may import the folders of its set.
MAY_IMPORT = {
    "cli": {"errors", "cli", "train", "model", "pipeline"},
    "train": {"errors", "train", "model", "pipeline"},
    "model": {"errors", "model"},
    "pipeline": {"errors", "pipeline", "manifests"},
    "manifests": {"manifests"},
}
# torch is the model's and the trainer's, Ray belongs to one module.
ONLY_IN = {
    "torch": lambda path: path.parts[0] in ("model", "train"),
    "torchvision": lambda path: path.parts[0] in ("model", "train"),
    "timm": lambda path: path.parts[0] in ("model", "train"),
    "ray": lambda path: path == Path("pipeline/jobs/ray_runner.py"),
}
HEAVY = ("torch", "ray", "av", "pandas", "pyarrow", "matplotlib")


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported_names(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_one_way(folder: str) -> None:
    for source in sources(folder):
        first_party = {name.split(".")[1] for name in imported_names(source) if name.startswith("cavsync.")}
        forbidden = first_party - MAY_IMPORT[folder]
        assert not forbidden, f"{source.relative_to(ROOT)} imports {sorted(forbidden)}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_stay_in_their_place(library: str) -> None:
    for folder in MAY_IMPORT:
        for source in sources(folder):
            relative = source.relative_to(ROOT)
            roots = {name.split(".")[0] for name in imported_names(source)}
            # The command line may import torch inside a function, as it does with everything heavy.
            allowed = ONLY_IN[library](relative) or (folder == "cli" and library == "torch")
            assert library not in roots or allowed, f"{relative} imports {library}"


def test_every_package_ships() -> None:
    # An editable install sees any folder; a wheel holds only the listed ones.
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        "cavsync." + ".".join(init.parent.relative_to(ROOT).parts)
        for folder in MAY_IMPORT
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found | {"cavsync"} == set(setuptools["packages"])
    assert {"cavsync", *(f"cavsync.{folder}" for folder in MAY_IMPORT)} == set(setuptools["package-dir"])


def test_help_starts_without_heavy_libraries() -> None:
    code = f"import sys, cavsync.cli.main; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_the_repository_names_no_machine() -> None:
    # Paths of one machine mean nothing elsewhere; the environment variable is the only way to real clips.
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\n"):
        path = ROOT / name
        if name.endswith((".py", ".md", ".toml", ".yaml")) and path.exists() and path != Path(__file__):
            text = path.read_text()
            assert not any(word in text for word in ("/home/", "/root/", "/scratch/")), name
