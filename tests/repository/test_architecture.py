"""Proves the shape of the code: imports follow the arrows, folders stay small, names have one meaning, `--help` is light."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = ("cavsync", "cli", "train", "model", "pipeline", "manifests")
# A folder imports from the folders before it in its own line, and from those of USES.
ORDER = {
    "pipeline": "storage dataset curation media/demuxing media media/backends archives decoding lists plan jobs derived duplicates inspection synthetic",
    "model": ". checkpoints/files checkpoints checkpoints/export",
    "train": """
        . engine/overlap engine/tracking engine/mirror engine/saving engine data/index data/mixture data data/stream data/labelled reporting dataset_card huggingface embedding embedding/windows
        boards evaluation evaluation/heatmaps evaluation/retrieval evaluation/classification evaluation/segmentation evaluation/localization
        evaluation/synchrony/perturbed evaluation/synchrony evaluation/comparison curation pretrain finetune inference inference/search inference/localize demo study
    """,
    "cli": "console prepare data train evaluate inference checkpoint study .",
}
USES = {
    "cavsync": {"cavsync", "train", "model", "pipeline"},
    "cli": {"cavsync", "train", "model", "pipeline"},
    "train": {"cavsync", "model", "pipeline"},
    "model": {"cavsync"},
    "pipeline": {"cavsync", "manifests"},
    "manifests": set(),
}
# Neighbours in ORDER that do not know each other.
PROTOCOLS = [f"train/evaluation/{name}" for name in
             ("retrieval", "classification", "segmentation", "localization", "synchrony")]  # fmt: skip
COMMANDS = [f"cli/{name}" for name in ("prepare", "data", "train", "evaluate", "inference", "checkpoint")]
TASKS = [
    f"train/{name}"
    for name in ("pretrain", "finetune", "inference", "inference/search", "inference/localize")
]
STRANGERS = (PROTOCOLS, COMMANDS, TASKS)
MAX_MODULES = 12
# torch is the model's and the trainer's, Ray belongs to two modules.
ONLY_IN = {
    "torch": ("model/", "train/"),
    "torchvision": ("model/", "train/"),
    "timm": ("model/", "train/"),
    "transformers": ("train/huggingface/",),
    "ray": ("pipeline/jobs/ray_cluster.py", "pipeline/jobs/ray_runner.py"),
}
HEAVY = ("torch", "ray", "av", "pandas", "pyarrow", "matplotlib")


@cache
def modules() -> dict[str, Path]:
    """ "pipeline.media.mel" -> its file, for every module of the product; a package is named by its folder."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for top in TOP
        for path in sorted((ROOT / top).rglob("*.py"))
    }


def folder_of(module: str) -> str:
    return modules()[module].parent.relative_to(ROOT).as_posix()


@cache
def imports(module: str) -> frozenset[str]:
    """The product's modules that a module imports, lazily and for type checking too."""
    return frozenset(known(name) for name in imported_names(modules()[module]) if name.startswith("cavsync."))


def imported_names(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def known(name: str) -> str:
    """The module that `cavsync.a.b.Name` lies in."""
    first, *rest = name.split(".")
    parts = rest if rest[0] in TOP else [first, *rest]
    while ".".join(parts) not in modules():
        parts.pop()
    return ".".join(parts)


def first_folder(folder: str) -> str:
    return folder.split("/")[0]


def rank(folder: str) -> int:
    top, _, inner = folder.partition("/")
    return ORDER[top].split().index(inner or ".")


def is_allowed(folder: str, other: str) -> bool:
    """Whether a module in `folder` may import one in `other`."""
    if any(folder in group and other in group for group in STRANGERS):
        return folder == other
    if first_folder(folder) != first_folder(other):
        return first_folder(other) in USES[first_folder(folder)]
    return folder == other or rank(other) < rank(folder)


def test_imports_follow_the_arrows() -> None:
    against = [
        f"{module} imports {other}"
        for module in modules()
        for other in imports(module)
        if not is_allowed(folder_of(module), folder_of(other))
    ]
    assert not against, "not before it in ORDER, or not in USES: " + ", ".join(against)


def test_no_files_import_in_a_circle() -> None:
    try:
        TopologicalSorter({module: imports(module) - {module} for module in modules()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_folders_stay_small() -> None:
    counts: dict[str, int] = defaultdict(int)
    for folder in (*TOP, "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            counts[path.parent.relative_to(ROOT).as_posix()] += path.name != "__init__.py"
    crowded = {folder: count for folder, count in counts.items() if count > MAX_MODULES}
    assert not crowded, f"split by a noun: {crowded}"


def test_a_public_class_name_has_one_meaning() -> None:
    defined_in: dict[str, list[str]] = defaultdict(list)
    for module, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined_in[node.name].append(module)
    doubled = {name: found for name, found in defined_in.items() if len(found) > 1}
    assert not doubled


def test_the_tree_of_architecture_md_names_every_folder() -> None:
    folders = {path.parent.relative_to(ROOT) for path in modules().values()}
    assert set(documented_folders()) == {folder.as_posix() for folder in folders}


def documented_folders() -> Iterator[str]:
    """The folders of the tree, whose lines are indented by two spaces a level: `  media/   ...`."""
    tree = (ROOT / "ARCHITECTURE.md").read_text().partition("## The tree")[2].split("```")[1]
    above: list[str] = []
    for line in tree.splitlines():
        if found := re.match(r"( *)(\w+)/ ", line):
            above[len(found[1]) // 2 :] = [found[2]]
            yield "/".join(above)


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_are_imported_only_where_they_are_used(library: str) -> None:
    for module, path in modules().items():
        roots = {name.split(".")[0] for name in imported_names(path)}
        # The command line may import torch inside a function, as it does with everything heavy.
        is_lazy = module.startswith("cli") and library == "torch"
        allowed = path.relative_to(ROOT).as_posix().startswith(ONLY_IN[library]) or is_lazy
        assert library not in roots or allowed, f"{module} imports {library}"


def test_every_package_ships() -> None:
    # An editable install sees any folder; a wheel holds only the listed ones.
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {module for module, path in modules().items() if path.name == "__init__.py"}
    assert {f"cavsync.{package}" for package in packages - {"cavsync"}} | {"cavsync"} == set(
        setuptools["packages"]
    )
    assert {f"cavsync.{top}" for top in TOP[1:]} | {"cavsync"} == set(setuptools["package-dir"])


def heavy_after(code: str) -> list[str]:
    """Those of HEAVY that a new Python has loaded after `code`."""
    program = f"import sys; {code}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()


def test_help_starts_without_heavy_libraries() -> None:
    assert heavy_after("import cavsync.cli.main") == []


def test_the_decoder_process_loads_no_tables() -> None:
    assert heavy_after("from cavsync.pipeline.decoding import worker; worker.answers()") == ["av"]


def test_the_repository_names_no_machine() -> None:
    # Paths of one machine mean nothing elsewhere; the environment variable is the only way to real clips.
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\n"):
        path = ROOT / name
        if name.endswith((".py", ".md", ".toml", ".yaml")) and path.exists() and path != Path(__file__):
            text = path.read_text()
            assert not any(word in text for word in ("/home/", "/root/", "/scratch/")), name
