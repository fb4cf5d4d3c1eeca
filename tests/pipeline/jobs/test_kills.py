"""Proves that after a kill at any moment the same command ends with the bytes of an undisturbed run.

More than twenty kills: at every point where something is written, at random times, of the command and of workers.
"""

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.media import write_clip
from support.runs import content, prepare, prepare_here, prepare_killed, stamps, started, wait_for

NUM_CLIPS = 10


def at(call: str, path: str, when: str, nth: int = 1) -> dict[str, Any]:
    return {"at": call, "path": path, "when": when, "nth": nth}


# In the order in which a run comes by, so that one dataset can be killed at all of them, one after the other.
WRITE_POINTS = [
    at("fsync", "*/.plan.parquet.*", "before"),
    at("replace", "*/plan.parquet", "before"),
    at("replace", "*/plan.parquet", "after"),
    at("member", "*", "before"),
    at("member", "*.json", "after"),
    at("member", "*.mel.npy", "after", nth=2),
    at("fsync", "*/shards/.*", "before"),
    at("replace", "*.tar", "before"),
    at("replace", "*.tar", "after"),
    at("replace", "*/index/*", "before"),
    at("replace", "*/index/*", "after"),
    at("replace", "*/done/*", "before", nth=2),
    at("replace", "*/done/*", "after"),
    at("replace", "*/dataset.json", "before"),
    at("replace", "*/dataset.json", "after"),
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "clip0.mp4", 1.2)
    for number in range(1, NUM_CLIPS - 1):
        (folder / f"clip{number}.mp4").symlink_to("clip0.mp4")
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    assert prepare_here(videos, "--out", out).returncode == 0
    return content(out)


def finish(videos: Path, out: Path, undisturbed: dict[str, bytes]) -> None:
    finished = stamps(out)
    result = prepare_here(videos, "--out", out)
    assert result.returncode == 0, result.stderr
    assert content(out) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(out.rglob(".*"))


def test_killed_at_every_write(videos: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "data"
    for point in WRITE_POINTS:
        finished = stamps(out)
        assert prepare_killed(videos, "--out", out, sabotage=[point]) == -signal.SIGKILL, point
        assert {path: path.stat().st_mtime_ns for path in finished} == finished, point
    finish(videos, out, undisturbed)


def test_killed_at_random_times(videos: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    generator = random.Random(0)
    out = tmp_path / "data"
    for _ in range(6):
        with started(videos, "--out", out):
            time.sleep(generator.uniform(0.4, 1.6))
    finish(videos, out, undisturbed)


@pytest.mark.slow
def test_workers_that_are_killed_are_replaced(
    videos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """Two workers and a decoder in one run: mid-tar, after a tar's rename, mid-clip."""
    out = tmp_path / "data"
    harms: list[dict[str, Any]] = [
        at("member", "*.json", "after"),
        at("replace", "*.tar", "after"),
        {"clips": {f"clip{n}": "be_killed" for n in range(NUM_CLIPS)}},
    ]
    once = [tmp_path / f"harm{number}" for number in range(len(harms))]
    sabotage = [harm | {"once": str(path)} for harm, path in zip(harms, once, strict=True)]
    result = prepare(videos, "--out", out, "--workers", "2", sabotage=sabotage)
    assert result.returncode == 0, result.stderr
    assert all(path.exists() for path in once)
    assert result.stderr.count("was lost (WorkerCrashedError); making it again.") == 2
    assert "its decoder died (killed by SIGKILL)" in result.stderr  # printed by a worker
    assert content(out) == undisturbed
    assert not list(out.rglob(".*"))


@pytest.mark.slow
def test_the_whole_of_ray_is_killed(videos: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "data"
    with started(videos, "--out", out, "--workers", "2"):
        wait_for(lambda: any(out.glob("done/*")))
    finish(videos, out, undisturbed)  # at once, while Ray's orphans may still be writing
