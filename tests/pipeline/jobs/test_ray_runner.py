"""Proves that Ray tasks write the same bytes as one process, and that interrupted work leaves no partial shard."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest
from support import command_line
from support.media import write_clip
from support.runs import content, prepare, prepare_here, started, wait_for
from typer.testing import CliRunner

from cavsync.cli.main import app
from cavsync.pipeline.dataset.reader import Dataset


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(7):
        write_clip(folder / f"clip{number}.mp4", 1.2 + number / 5)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def inline(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("inline") / "data"
    assert prepare_here(videos, "--out", out).returncode == 0
    return out


def long_folder(tmp_path: Path) -> Path:
    """The path of a Unix socket has 107 bytes at most, and Ray's own part takes 66 of them."""
    folder = tmp_path / ("x" * (120 - len(str(tmp_path))))
    folder.mkdir()
    return folder


def test_ray_writes_the_bytes_that_one_process_writes_however_long_the_path_of_its_folder_is(
    videos: Path, inline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    monkeypatch.setenv("TMPDIR", str(long_folder(tmp_path)))
    result = prepare(videos, "--out", out, "--workers", "64")
    assert result.returncode == 0, result.stderr
    assert content(out) == content(inline)
    num_cpus = len(os.sched_getaffinity(0))
    if num_cpus < 64:
        assert (
            f"64 workers were requested, there are CPUs for {num_cpus}: running {num_cpus}." in result.stderr
        )
    assert "Warning" not in result.stderr
    assert "8 of 8 clips (100 %)" in result.stderr
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_ray_gets_a_short_folder_instead_of_a_long_one(
    variable: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def not_now(*_: object, _temp_dir: object, **options: object) -> None:
        given.append(_temp_dir)
        raise Exception("Not now.")  # noqa: TRY002 (as Ray does)

    monkeypatch.setattr("ray.init", not_now)
    for folder in (long_folder(tmp_path), "/var/tmp"):
        monkeypatch.setenv(variable, str(folder))
        assert command_line.prepare("folder", videos, "--out", tmp_path / "data", "--workers", "2")[0] == 1
    long, short = given
    assert str(long) in ("/tmp/ray", f"/tmp/ray-{os.getuid()}")
    assert short is None  # Ray's own choice, which is the variable's


def test_where_ray_does_not_start_the_message_says_what_to_do(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object, **options: object) -> None:
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 (as Ray does)

    monkeypatch.setattr("ray.init", too_late)
    code, text = command_line.prepare("folder", videos, "--out", tmp_path / "data", "--workers", "2")
    assert code == 1
    assert "Ray does not start on this machine: The current node timed out during startup. Repeat" in text
    assert "--workers 1" in text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupted_run_ends_cleanly_and_is_continued(workers: str, videos: Path, tmp_path: Path) -> None:
    many, out = tmp_path / "many", tmp_path / "data"
    many.mkdir()
    for number in range(30):
        (many / f"{number}.mp4").symlink_to(videos / "clip6.mp4")
    with interrupted(many, "--out", out, "--workers", workers):
        wait_for(lambda: len(list((out / "done").glob("*.json"))) >= 3)
    assert not list(out.rglob(".*"))
    finished = {path: path.stat().st_mtime_ns for path in (out / "done").iterdir()}
    assert 3 <= len(finished) < 15
    assert prepare_here(many, "--out", out).returncode == 0
    assert Dataset.open(out).summary["states"] == {"ok": 30}
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_ctrl_c_while_ray_starts_ends_the_run_cleanly(videos: Path, tmp_path: Path) -> None:
    with interrupted(videos, "--out", tmp_path / "data", "--workers", "2") as run:
        wait_for(
            lambda: any("raylet/raylet" in child for child in children(run.pid))
        )  # seconds before any shard


def test_ctrl_c_ends_the_run_while_no_cluster_answers(videos: Path, tmp_path: Path) -> None:
    """Ray itself would wait for many minutes, and would ignore it. It asks at the machine's outer address."""
    with socket.create_server(("", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with interrupted(videos, "--out", tmp_path / "data", "--ray-address", address):
            assert select([silent], [], [], 60)[0], "no connection came"


def test_a_wrong_address_is_an_error(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cavsync.pipeline.jobs.ray_cluster.ANSWER_S", 2)
    arguments = [str(videos), "--out", str(tmp_path / "data"), "--ray-address", "127.0.0.1:1"]
    result = CliRunner().invoke(app, ["prepare", "folder", *arguments])
    assert result.exit_code == 1
    output = " ".join(result.stderr.split())
    assert "no Ray cluster answers at 127.0.0.1:1 within 2 s. Give its head's HOST:PORT" in output


def test_without_a_short_folder_the_error_names_the_way_out(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"/{'x' * 119}")
    monkeypatch.setattr("cavsync.pipeline.jobs.ray_cluster.DEFAULT_FOLDER", str(tmp_path / "gone"))
    code, output = command_line.prepare("folder", videos, "--out", tmp_path / "data", "--workers", "2")
    assert code == 1
    assert (
        "Set RAY_TMPDIR to a writable folder with a path of at most 39 bytes, or run with --workers 1"
        in output
    )


@contextmanager
def interrupted(*arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A run that gets Ctrl-C at the end of the block and is expected to end for it."""
    with started(*arguments) as run:
        yield run
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does, to everybody in the group
        _, output = run.communicate(timeout=30)
    assert run.returncode == 130, output
    assert "Interrupted. The same command continues where it stopped." in output
    assert "Traceback" not in output


def children(pid: int) -> list[str]:
    """The command lines of a process's children."""
    pids = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [Path(f"/proc/{child}/cmdline").read_text() for child in pids]
