"""Proves that the wheel alone is the whole product: it installs into a clean environment and every module imports."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cavsync", "cli", "manifests", "model", "pipeline", "train")


def run(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv that holds only the wheel; the dependencies come from the running environment by path."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy, so that leftovers of the working tree (build/lib) cannot get into the wheel.
    run("git", "clone", "--quiet", ROOT, source, cwd=folder)
    tracked_changes = run("git", "diff", "HEAD", "--binary", cwd=ROOT)
    if tracked_changes:
        subprocess.run(["git", "apply"], cwd=source, input=tracked_changes, text=True, check=True)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=source)
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("cavsync-*.whl")
    install = ("install", "--quiet", "--no-deps", wheel)
    # A pip of its own takes seconds to make.
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    # The running environment also holds the editable cavsync: its import hook must not be executed, and a
    # plain path line in a .pth file executes none.
    (site / "dependencies.pth").write_text("\n".join([*dependencies, ""]))
    return folder / "venv" / "bin"


def module_name(path: Path) -> str:
    """`cavsync.cli.main` for cli/main.py; the folder cavsync/ is `cavsync` itself."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if name.split(".")[0] == "cavsync" else f"cavsync.{name}"


def test_the_installed_command_shows_its_help(clean_environment: Path, tmp_path: Path) -> None:
    text = run(clean_environment / "cavsync", "--help", cwd=tmp_path)
    for group in ("prepare", "train", "eval", "demo"):
        assert group in text


@pytest.mark.slow
def test_every_module_of_the_tree_imports_from_the_wheel(clean_environment: Path, tmp_path: Path) -> None:
    modules = [module_name(path) for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]
    code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    files = run(clean_environment / "python", "-W", "ignore", "-c", code, *modules, cwd=tmp_path).splitlines()
    assert len(files) == len(modules)
    assert all(str(clean_environment.parent) in file for file in files)
