"""Proves that the blocks of README and docs are what they claim: commands parse, data loads, and each has a language."""

import ast
import csv
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from support.command_line import output_text
from support.documents.pages import PAGES, ROOT, Block, blocks
from typer.core import TyperCommand
from typer.main import get_command

from cavsync.cli.config import resolved
from cavsync.cli.main import app
from cavsync.train.data.inputs import parse_fields, split_fields
from cavsync.train.pretrain.flops import flops_of_a_clip
from cavsync.train.pretrain.presets import PRESETS

LANGUAGES = {"sh", "python", "csv", "toml", "json", "text"}
# For the fields that --set names; a command without a preset may take that of the run that it resumes.
DEFAULT_PRESETS = {
    "pretrain": "sync-base",
    "finetune": "finetune-as20k",
    "probe": "probe-as20k",
    "show": "tiny",
}
COMMAND_LINE = get_command(app)  # built once: it takes longer than parsing
ALL = [block for page in PAGES for block in blocks(page)]
COMMANDS = [
    pytest.param(arguments, id=f"{block.page}:{block.line} {' '.join(arguments)}")
    for block in ALL
    if block.language == "sh"
    for arguments in block.commands()
]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Gets the parameters of each command that the real command line parses, in place of its work."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(TyperCommand, "invoke", lambda self, context: found.append(context.params))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_closed_and_has_a_known_language(page: str) -> None:
    fences = re.findall(r"^ *```.*$", (ROOT / page).read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_commands_are_in_blocks_that_are_checked() -> None:
    hidden = [
        f"{block.page}:{block.line}"
        for block in ALL
        if block.language not in ("sh", "python") and re.search(r"^cavsync ", block.text, re.MULTILINE)
    ]
    assert hidden == []
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_command_of_a_page_is_one_of_the_command_line(
    arguments: list[str], parsed: list[dict[str, Any]]
) -> None:
    result = CliRunner().invoke(COMMAND_LINE, arguments)
    assert result.exit_code == 0, output_text(result)
    (parameters,) = parsed
    overrides = parameters.get("overrides") or []
    if arguments[0] in ("train", "config"):
        resolved(parameters.get("preset") or DEFAULT_PRESETS[arguments[1]], overrides)
    else:
        split_fields(parse_fields(overrides))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["eval", "retrieve"], "No such command 'retrieve'"),
        (["prepare", "audioset", "--worker-count", "3"], "No such option: --worker-count"),
        (["embed", "a.mp4", "--out", "b.parquet", "--step", "often"], "Invalid value for '--step'"),
        (["train", "pretrain", "--device", "abacus"], "Invalid value for '--device'"),
    ],
)
def test_a_wrong_command_on_a_page_would_fail(
    arguments: list[str], reason: str, parsed: list[dict[str, Any]]
) -> None:
    result = CliRunner().invoke(COMMAND_LINE, arguments)
    assert result.exit_code == 2
    assert reason in output_text(result)
    assert parsed == []


def test_other_programs_of_the_pages_exist() -> None:
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    benchmarks = set(re.findall(r"python -m benchmarks\.([a-z_]+)", text))
    assert benchmarks
    runnable = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    runnable |= {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert benchmarks <= runnable
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= made


def texts_of_commands(command: Any) -> Iterator[str]:
    """The help of a command or group, of its options and of its commands."""
    yield command.help or ""
    yield from (getattr(parameter, "help", None) or "" for parameter in command.params)
    for inner in getattr(command, "commands", {}).values():
        yield from texts_of_commands(inner)


def test_words_that_newcomers_did_not_understand_are_gone_or_explained() -> None:
    pages = "\n".join((ROOT / page).read_text() for page in PAGES)
    commands = "\n".join(texts_of_commands(COMMAND_LINE))
    for word in ("floor_share", "inverted!", "foreign sound", "delay told", "looks.jsonl"):
        assert word not in pages + commands
    assert "role" not in commands
    assert "passes over" not in commands.lower()
    for explanation in (
        "* **Agreement** says how far the frames have the same delay",
        "A window *passes* where its similarity is the threshold or more",
        "its done-record, `done/SHARD.json` with its counts and checksums",
        "what each split is for",
        "inverted: low on objects",
    ):
        assert explanation in pages
    assert "A done-record, done/SHARD.json, is written when a shard is finished" in " ".join(commands.split())
    assert "how far the frames have one delay in common" in commands


def test_extras_of_the_pages_are_those_of_the_package() -> None:
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    named = {
        extra for group in re.findall(r"(?:cavsync|\.)\[([a-z,]+)\]'", text) for extra in group.split(",")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert named == set(project["optional-dependencies"])


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_what_to_expect_of_so_many_clips_is_computed_as_the_page_says() -> None:
    text = (ROOT / "docs" / "weights.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\| [\d,]+ \|", line)
    ]
    assert len(rows) == 5
    tiny, sync_base = PRESETS["tiny"](), PRESETS["sync-base"]()
    assert f"{sync_base.batch_size} for\n  `sync-base`, {tiny.batch_size} for `tiny`" in text
    for clips, _, disk, preparing, training in rows:
        num_clips = int(clips.replace(",", ""))
        size, unit = disk.split()
        assert float(size) * {"MB": 1, "GB": 1000}[unit] == pytest.approx(0.45 * num_clips, rel=0.1)
        assert seconds(preparing) == pytest.approx(0.2 * num_clips, rel=0.1)
        if num_clips < sync_base.batch_size:
            assert training == "no batch is full"
        else:
            epochs_s = sync_base.num_epochs * num_clips * flops_of_a_clip(sync_base) / (0.4 * 989e12)
            assert seconds(training) == pytest.approx(epochs_s, rel=0.1)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{block.page}:{block.line}")
        for block in ALL
        if block.language not in ("sh", "text")
    ],
)
def test_data_and_code_of_a_page_can_be_read(block: Block) -> None:
    if block.language == "csv":
        widths = {len(row) for row in csv.reader(block.text.splitlines())}
        assert len(widths) == 1
    elif block.language == "python":
        ast.parse(block.text)
    else:
        assert {"toml": tomllib.loads, "json": json.loads}[block.language](block.text)
