"""Proves that a run survives clips that kill or hang their decoder, full and vanished disks, and signals."""

import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.media import write_clip
from support.runs import content, index, prepare, prepare_here, stamps, started, wait_for

from cavsync.pipeline.dataset.index_row import index_rows
from cavsync.pipeline.dataset.reader import Dataset, read_clip
from cavsync.pipeline.decoding.process import DecoderError, DecoderProcess
from cavsync.pipeline.storage.lock import LockError, run_lock


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "clip0.mp4", 1.2)
    for number in range(1, 8):
        (folder / f"clip{number}.mp4").symlink_to("clip0.mp4")
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    assert prepare_here(videos, "--out", out).returncode == 0
    return out


@pytest.fixture(scope="module")
def harmed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A dataset of which most clips kill their decoder, and the output of the command."""
    harms = {"clip0": "segfault", "clip1": "abort", "clip2": "be_killed", "clip3": "eat_memory"}
    harms |= {"clip4": "raise", "clip5": "hang"}
    out = tmp_path_factory.mktemp("harmed") / "data"
    result = prepare_here(videos, "--out", out, "--clip-timeout", "1.5", sabotage=[{"clips": harms}])
    assert result.returncode == 0, result.stderr
    return out, result.stderr


def test_a_clip_that_kills_its_decoder_twice_is_crashed(harmed: tuple[Path, str]) -> None:
    rows = index(harmed[0]).set_index("clip_id").sort_index()
    assert rows["state"].tolist() == ["crashed"] * 5 + ["timeout", "ok", "ok"]
    assert rows["reason"].tolist()[:6] == [
        "its decoder died 2 times: killed by SIGSEGV",
        "its decoder died 2 times: killed by SIGABRT",
        "its decoder died 2 times: killed by SIGKILL",
        "its decoder died 2 times: MemoryError",
        "its decoder died 2 times: ValueError: a bug of ours",
        "not decoded within 1.5 s",
    ]
    assert Dataset.open(harmed[0]).summary["states"] == {"crashed": 5, "ok": 2, "timeout": 1}


def test_a_failure_changes_no_other_clip(harmed: tuple[Path, str], undisturbed: Path) -> None:
    data, whole = Dataset.open(harmed[0]), Dataset.open(undisturbed)
    expected = {row.key: read_clip(whole.paths, row) for row in index_rows(whole.index_table("train"))}
    for row in index_rows(data.index_table("train")):
        clip = read_clip(data.paths, row)
        assert clip.frames == expected[row.key].frames
        assert (clip.mel == expected[row.key].mel).all()


def test_the_user_sees_where_a_decoder_died(harmed: tuple[Path, str]) -> None:
    assert "Clip clip0_00000000: its decoder died (killed by SIGSEGV)" in harmed[1]
    assert "Fatal Python error: Segmentation fault" in harmed[1]
    assert "in raise_error" in harmed[1]


def test_a_clip_that_kills_its_decoder_once_is_fine(videos: Path, undisturbed: Path, tmp_path: Path) -> None:
    harm = {"clips": {"clip3": "segfault"}, "once": str(tmp_path / "once")}
    result = prepare_here(videos, "--out", tmp_path / "data", sabotage=[harm])
    assert (tmp_path / "once").exists()
    assert result.returncode == 0
    assert content(tmp_path / "data") == content(undisturbed)


def test_a_decoder_that_does_not_start_is_no_crashed_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cavsync.pipeline.decoding.process.WORKER_MODULE", "cavsync.pipeline.nothing")
    with (
        pytest.raises(DecoderError, match=r"No module named cavsync\.pipeline\.nothing"),
        DecoderProcess() as one,
    ):
        one.prepare({"key": "a_00000000"}, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_kill_ends_a_run_at_once_in_the_middle_of_a_clip(
    number: signal.Signals, videos: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    last = index(undisturbed)["clip_id"].iloc[-1]
    hanging = [{"clips": {last: "hang"}}]  # so that it happens in the middle of a clip
    with started(videos, "--out", out, sabotage=hanging) as run:
        wait_for(lambda: len(list(out.glob("done/*"))) == 3)
        begun = time.monotonic()
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        _, output = run.communicate(timeout=30)
        assert time.monotonic() - begun < 20  # the clip would take ten minutes; benchmarks.start measures
    assert run.returncode == 130
    assert "Interrupted. The same command continues where it stopped." in output
    assert "Traceback" not in output
    assert not list(out.rglob(".*"))
    finished = stamps(out)
    assert prepare_here(videos, "--out", out).returncode == 0
    assert content(out) == content(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_a_file_that_cannot_grow_is_an_error(videos: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for any error of the disk in the middle of a tar."""
    out = tmp_path / "data"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    tar = min(path.stat().st_size for path in undisturbed.glob("shards/*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (tar - 1, limit[1]))
    try:
        result = prepare(videos, "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert result.returncode == 1
    assert f"Error: Preparing {out} stopped: " in result.stderr
    assert (
        "File too large. Make room on that disk, or write to another place. Finished shards are kept"
        in result.stderr
    )
    assert "Traceback" not in result.stderr
    assert not [path for path in out.rglob("*") if path.is_file() and path.name != "plan.parquet"]
    assert prepare_here(videos, "--out", out).returncode == 0
    assert content(out) == content(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", disk]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_disk_that_is_full_is_filled_on_after(
    workers: str, videos: Path, undisturbed: Path, small_disk: Path
) -> None:
    out = small_disk / "data"
    result = prepare(videos, "--out", out, "--workers", workers)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "No space left on device" in result.stderr
    assert "repeat the command when the cause is gone" in result.stderr
    assert not list(out.rglob(".*"))
    remount(small_disk, "size=8m")
    assert prepare_here(videos, "--out", out).returncode == 0
    assert content(out) == content(undisturbed)


def test_a_disk_that_is_read_only_is_an_error(videos: Path, small_disk: Path) -> None:
    remount(small_disk, "ro")
    result = prepare_here(videos, "--out", small_disk / "data")
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: {small_disk} cannot be written: Read-only file system. Write to another place: give another with --out.\n"
    )


def test_a_target_below_a_file_is_an_error(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "data"):
        result = prepare_here(videos, "--out", out)
        assert result.returncode == 1
        assert result.stderr == (
            f"Error: {tmp_path / 'file'} cannot be written: Not a directory. A part of that path is a file; write to another place: give another with --out.\n"
        )


def own_videos(folder: Path, videos: Path) -> Path:
    folder.mkdir()
    for number in range(8):
        (folder / f"clip{number}.mp4").write_bytes((videos / "clip0.mp4").read_bytes())
    return folder


def test_a_video_that_vanishes_is_missing_until_it_is_back(videos: Path, tmp_path: Path) -> None:
    own, out = own_videos(tmp_path / "videos", videos), tmp_path / "data"
    lost = own / "clip6.mp4"
    bytes_lost = lost.read_bytes()
    others = {"clips": {f"clip{n}": "delete" for n in range(8) if n != 6}, "once": str(tmp_path / "once")}
    result = prepare_here(own, "--out", out, sabotage=[others], env={"VIDEO": str(lost)})
    assert result.returncode == 0, result.stderr
    row = index(out).set_index("clip_id").loc["clip6"]
    assert (row["state"], row["reason"]) == ("missing", f"{lost} is not there")
    finished = stamps(out)
    lost.write_bytes(bytes_lost)
    result = prepare_here(own, "--out", out, "--retry-failed")
    assert "Trying 1 of 1 failed clips again: 1 missing." in result.stderr
    assert Dataset.open(out).summary["states"] == {"ok": 8}
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_a_folder_that_vanishes_is_an_error(videos: Path, undisturbed: Path, tmp_path: Path) -> None:
    own, out = own_videos(tmp_path / "videos", videos), tmp_path / "data"
    result = prepare_here(
        own, "--out", out, sabotage=[{"clips": {"clip1": "unplug"}}], env={"VIDEOS": str(own)}
    )
    assert result.returncode == 1
    assert f"{own}, the folder of the videos, is gone since the run began." in result.stderr
    assert not list(out.rglob(".*"))
    (tmp_path / "videos.gone").rename(own)
    assert prepare_here(own, "--out", out).returncode == 0
    tars = {path.name: path.read_bytes() for path in out.glob("shards/*")}
    assert tars == {path.name: path.read_bytes() for path in undisturbed.glob("shards/*")}


def test_the_second_run_names_the_process_at_work(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    with started(videos, "--out", out, sabotage=[{"clips": {"clip3": "hang"}}]) as run:
        wait_for((out / "plan.parquet").exists)
        result = prepare_here(videos, "--out", out)
    assert result.returncode == 1
    assert f"is being prepared by process {run.pid} on {socket.gethostname()} since " in result.stderr
    assert prepare_here(videos, "--out", out).returncode == 0  # the lock of the killed one is stale


@pytest.mark.parametrize(
    ("change", "stale"), [({}, False), ({"started": "1"}, True), ({"pid": 2**22 + 1}, True)]
)
def test_a_lock_is_stale_when_that_very_process_is_gone(
    change: dict[str, object], stale: bool, tmp_path: Path
) -> None:
    with run_lock(tmp_path):
        holder = json.loads((tmp_path / ".lock").read_text())
    (tmp_path / ".lock").write_text(json.dumps(holder | change))
    if stale:
        with run_lock(tmp_path):
            pass
        assert not (tmp_path / ".lock").exists()
    else:
        with pytest.raises(LockError, match=f"process {os.getpid()} on"), run_lock(tmp_path):
            pass
