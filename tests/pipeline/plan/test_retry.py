"""Proves that finished shards stay: failed clips are tried again in new shards, and a list that grew gets new ones."""

import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from support.command_line import output_text, run
from support.media import write_clip
from support.runs import content, prepare_here, prepare_killed, stamps

from cavsync.pipeline.dataset.reader import Dataset

SMALL = ("--shard-size", "2", "--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")
ROWS = ("a,0,dog,test", "b,0,cat,test", "c,0,dog,test", "a,0,dog,test", "d,0,dog,train", "e,0,dog,test")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("good") / "good.mp4", 1.2).path.read_bytes()


@pytest.fixture
def root(tmp_path: Path, good: bytes) -> Path:
    """VGGSound with the videos a (good), b (broken), d (good) and e (good); c is missing."""
    (tmp_path / "videos").mkdir()
    for clip_id in "ade":
        (tmp_path / "videos" / f"{clip_id}.mp4").write_bytes(good)
    (tmp_path / "videos" / "b.mp4").write_text("410 Gone")
    write_list(tmp_path, *ROWS)
    return tmp_path


def write_list(root: Path, *rows: str) -> None:
    (root / "list.csv").write_text("\n".join([*rows, ""]))


def vggsound(root: Path, *options: str) -> Result:
    paths = ("--list", root / "list.csv", "--videos", root / "videos", "--out", root / "out")
    return run("prepare", "vggsound", *paths, *SMALL, *options)


def untouched(finished: dict[Path, int]) -> bool:
    return {path: path.stat().st_mtime_ns for path in finished} == finished


def test_failed_clips_are_tried_again_in_new_shards(root: Path, good: bytes) -> None:
    assert vggsound(root).exit_code == 0
    out = root / "out"
    assert Dataset.open(out).summary["states"] == {"decode_error": 1, "duplicate": 1, "missing": 1, "ok": 3}
    finished, plan = stamps(out), (out / "plan.parquet").read_bytes()
    for clip_id in "bc":
        (root / "videos" / f"{clip_id}.mp4").write_bytes(good)
    assert "All 6 clips are prepared already." in output_text(vggsound(root))
    result = vggsound(root, "--retry-failed")
    assert result.exit_code == 0, result.output
    assert "Trying 2 of 2 failed clips again: " in output_text(result)
    data = Dataset.open(out)
    assert data.summary["states"] == {"duplicate": 1, "ok": 5}
    assert data.outcomes("test")["state"].tolist() == ["ok"] * 4  # the duplicate is one of them
    assert len(data.outcomes("train")) == 1
    rows = data.index("test")
    assert sorted(rows["clip_id"]) == ["a", "b", "c", "e"]
    assert set(rows.set_index("clip_id").loc[["b", "c"], "shard"]) == {"test-00000r1"}
    assert untouched(finished)
    assert (out / "plan.parquet").read_bytes() == plan


def test_a_clip_that_fails_again_is_counted_once(root: Path, good: bytes) -> None:
    vggsound(root)
    result = vggsound(root, "--retry-failed")
    assert "1 missing clips still have no video." in output_text(result)
    assert "Trying 1 of 2 failed clips again: 1 decode_error." in output_text(result)
    assert sum(Dataset.open(root / "out").summary["states"].values()) == 6
    (root / "videos" / "b.mp4").write_bytes(good)
    (root / "videos" / "c_000000.mp4").write_bytes(good)
    assert vggsound(root, "--retry-failed").exit_code == 0
    data = Dataset.open(root / "out")
    assert data.summary["states"] == {"duplicate": 1, "ok": 5}
    assert data.shard_names("test") == [
        "test-00000",
        "test-00000r1",
        "test-00000r2",
        "test-00001",
        "test-00002",
    ]
    before = content(root / "out")
    assert "No clip is to be tried again." in output_text(vggsound(root, "--retry-failed"))
    assert content(root / "out") == before


def test_a_retry_that_was_killed_is_continued(good: bytes, tmp_path: Path) -> None:
    """By the same command, which then makes no second round, and by one without --retry-failed."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(4):
        (videos / f"clip{number}.mp4").write_bytes(good if number else b"broken")
    outs = [tmp_path / name for name in ("undisturbed", "same", "plain")]
    assert prepare_here(videos, "--out", outs[0]).returncode == 0
    for out in outs[1:]:
        shutil.copytree(outs[0], out)
    (videos / "clip0.mp4").write_bytes(good)
    prepare_here(videos, "--out", outs[0], "--retry-failed")
    killer = {"at": "replace", "path": "*r1.tar", "when": "after"}
    for out, option in zip(outs[1:], (["--retry-failed"], []), strict=True):
        killed = prepare_killed(videos, "--out", out, "--retry-failed", sabotage=[killer])
        assert killed == -signal.SIGKILL
        assert prepare_here(videos, "--out", out, *option).returncode == 0
        assert content(out) == content(outs[0])
    assert Dataset.open(outs[0]).summary["states"] == {"ok": 4}


def test_a_longer_list_adds_shards_and_touches_none(root: Path, good: bytes) -> None:
    vggsound(root)
    out = root / "out"
    finished, plan = stamps(out), pq.read_table(out / "plan.parquet")
    (root / "videos" / "f.mp4").write_bytes(good)
    write_list(root, "f,0,fish,train", *ROWS, "f,0,fish,test", "a,0,dog,train")
    result = vggsound(root)
    assert result.exit_code == 0, result.output
    assert "The lists have 3 new clips: 2 new shards." in output_text(result)
    longer = pq.read_table(out / "plan.parquet")
    assert longer.slice(0, len(plan)).equals(plan)
    assert [row["shard"] for row in longer.slice(len(plan)).to_pylist()] == [
        "test-00003",
        "train-00001",
        "train-00001",
    ]
    summary = Dataset.open(out).summary
    assert summary["states"] == {"decode_error": 1, "duplicate": 3, "missing": 1, "ok": 4}
    assert summary["labels"] == ["cat", "dog", "fish"]
    assert untouched(finished)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (ROWS[1:], "1 planned clips are no longer listed, the first being a_00000000 (list.csv:4)"),
        ((*ROWS[:-1], "e,0,cat,test"), "e_00000000 (list.csv:6): its labels was dog and is now cat."),
        ((*ROWS[:-1], "e,0,dog,train"), "1 planned clips are no longer listed"),
    ],
)
def test_a_list_that_lost_or_changed_clips_is_refused(
    rows: tuple[str, ...], complaint: str, root: Path
) -> None:
    vggsound(root)
    before = content(root / "out")
    write_list(root, *rows)
    result = vggsound(root)
    assert result.exit_code == 1
    assert complaint in output_text(result)
    assert "choose another --out" in output_text(result)
    assert content(root / "out") == before


def test_a_folder_may_grow_and_lose_videos(good: bytes, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "data"
    videos.mkdir()
    for name in ("b", "c"):
        (videos / f"{name}.mp4").write_bytes(good)
    command = ["prepare", "folder", str(videos), "--out", str(out), *SMALL]
    assert run(*command).exit_code == 0
    finished = stamps(out)
    (videos / "a.mp4").write_bytes(good)
    (videos / "b.mp4").unlink()
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "The lists have 1 new clips: 1 new shards." in output_text(result)
    assert Dataset.open(out).summary["states"] == {"ok": 3}
    assert untouched(finished)
