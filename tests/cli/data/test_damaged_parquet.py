"""Proves that a damaged Parquet file of a dataset ends a command with its name and the way out, on a clean terminal."""

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import output_text, prepare, run
from support.prepared import OPTIONS, data

REPAIR = "`cavsync data validate {} --fix` removes damaged shards; then repeat the prepare command."
RESTORE = "Restore it from a copy, or prepare into another folder."


def cut(path: Path) -> None:
    """Leave half of the file, as a copy that was broken off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    """Zeros in the pages of the columns; the footer is whole."""
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, overwrite, empty])
@pytest.mark.parametrize("command", [("status", "--failed"), ("stats",), ("show",), ("status",)])
def test_a_damaged_index_is_named_with_the_command_that_repairs_it(
    command: tuple[str, ...], damage: Callable[[Path], None], out: Path
) -> None:
    for path in (out / "index").iterdir():
        damage(path)
    result = data(command[0], out, *command[1:])
    assert result.exit_code == 1, result.output
    assert ".parquet is no Parquet file, or a damaged one. " + REPAIR.format(out) in output_text(result)
    assert "Parquet magic" not in result.output


def test_a_damaged_index_is_repaired_by_the_commands_that_the_message_names(
    out: Path, prepared: Path
) -> None:
    cut(out / "index" / "train-00000.parquet")
    assert data("validate", out, "--fix").exit_code == 1
    given = ("--list", prepared / "list.csv", "--videos", prepared / "videos", "--out", out)
    assert prepare("vggsound", *given, *OPTIONS)[0] == 0
    assert data("validate", out).exit_code == 0


def test_training_names_a_damaged_index(out: Path) -> None:
    cut(out / "index" / "train-00000.parquet")
    result = run(
        "train", "pretrain", "--preset", "tiny", "--data", out, "--run", out / "run", "--device", "cpu"
    )
    assert result.exit_code == 1
    assert "train-00000.parquet is no Parquet file" in output_text(result)
    assert REPAIR.format(out) in output_text(result)


@pytest.mark.parametrize("command", ["status", "validate", "stats", "show"])
def test_a_damaged_plan_is_named_with_the_way_out(command: str, out: Path) -> None:
    cut(out / "plan.parquet")
    result = data(command, out)
    assert result.exit_code == 1
    assert f"{out / 'plan.parquet'} is no Parquet file, or a damaged one. {RESTORE}" in output_text(result)


def test_prepare_names_a_damaged_plan_and_one_of_another_program(out: Path, prepared: Path) -> None:
    given = ("--list", prepared / "list.csv", "--videos", prepared / "videos", "--out", out)
    shutil.copy(out / "index" / "train-00000.parquet", out / "plan.parquet")
    assert (
        f"{out / 'plan.parquet'} is no plan of cavsync. {RESTORE}" in prepare("vggsound", *given, *OPTIONS)[1]
    )
    cut(out / "plan.parquet")
    code, text = prepare("vggsound", *given, *OPTIONS)
    assert (code, f"{out / 'plan.parquet'} is no Parquet file" in text) == (1, True)


def test_a_damaged_summary_is_named_with_the_way_out(out: Path, prepared: Path) -> None:
    cut(out / "dataset.json")
    expected = f"{out / 'dataset.json'} is damaged"
    training = (
        "train",
        "pretrain",
        "--preset",
        "tiny",
        "--data",
        out,
        "--run",
        out / "run",
        "--device",
        "cpu",
    )
    given = ("--list", prepared / "list.csv", "--videos", prepared / "videos", "--out", out)
    for result in (data("status", out), run(*training), run("prepare", "vggsound", *given, *OPTIONS)):
        assert result.exit_code == 1
        assert expected in output_text(result)
    (out / "dataset.json").unlink()
    assert prepare("vggsound", *given, *OPTIONS)[0] == 0


@pytest.mark.parametrize("damage", [cut, overwrite, empty])
def test_a_damaged_list_is_named(damage: Callable[[Path], None], out: Path, prepared: Path) -> None:
    path = Path(shutil.copy(out / "index" / "train-00000.parquet", out.parent / "list.parquet"))
    damage(path)
    given = ("--videos", prepared / "videos", "--out", out.parent / "new", "--id-column", "clip_id")
    code, text = prepare("manifest", path, *given, *OPTIONS)
    assert code == 1
    assert f"{path} is no Parquet file, or a damaged one. Copy or write it again." in text


def on_terminal(*command: str | Path) -> str:
    """What a terminal of 80 columns shows after `cavsync ...`, by the control sequences that progress bars use."""
    ours, theirs = pty.openpty()
    program = str(Path(sys.executable).with_name("cavsync"))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [program, *map(str, command)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    received = b""
    try:
        while block := os.read(ours, 65536):
            received += block
    except OSError:  # the program has closed its end
        pass
    process.wait()
    os.close(ours)
    return _screen(received.decode())


def _screen(text: str) -> str:
    lines, row = [""], 0
    for sequence, number, name, character in re.findall(r"(\x1b\[\??([\d;]*)([A-Za-z]))|(.|\n)", text):
        if name == "A":
            row -= int(number or 1)
        elif name == "K":
            lines[row] = ""
        elif not sequence and character == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif not sequence and character != "\r":
            lines[row] += character
    return "\n".join(lines)


def test_no_bar_is_left_before_the_message_on_a_terminal(out: Path) -> None:
    index = out / "index" / "train-00001.parquet"
    cut(index)
    shown = on_terminal("data", "stats", out, "--out", out / "page")
    assert shown.strip().splitlines()[0].startswith("Error: ")
    assert "is no Parquet file" in " ".join(shown.split())
    assert "counting" not in shown


def test_a_finished_bar_stays(out: Path) -> None:
    assert "counting" in on_terminal("data", "stats", out, "--out", out / "page")
