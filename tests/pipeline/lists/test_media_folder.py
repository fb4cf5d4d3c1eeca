"""Proves that everything in a folder is listed or counted by reason and suffix, and links are followed without circles."""

import json
import os
import socket
from pathlib import Path

import pytest
from support.command_line import output_text, prepare, run
from support.media import run_ffmpeg, write_clip

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.lists.media_folder import FOLDER, find_media
from cavsync.pipeline.media.demuxing.formats import MEDIA_SUFFIXES, VIDEO_SUFFIXES
from cavsync.pipeline.plan.plan import Plan

SMALL = ("--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path) -> list[str]:
    return find_media(folder, VIDEO_SUFFIXES).paths


def left_out(folder: Path) -> dict[tuple[str, str], int]:
    return dict(find_media(folder, VIDEO_SUFFIXES).left_out.counts)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 1.5, size=(32, 32)).path


def test_the_first_line_counts_what_is_left_out(clip: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    touch(videos, "notes.txt", "more.TXT", "song.mp3", ".hidden.mp4", ".git/x.mp4", "README", "half.mp4.part")
    for name in ("a.MP4", "B.Mov", "c.mkv "):
        (videos / name).hardlink_to(clip)
    (videos / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(videos / "pipe.mp4")
    out = tmp_path / "out"
    code, output = prepare("folder", videos, "--out", out, *SMALL)
    assert code == 0, output
    kinds = output.removeprefix(f"3 videos in {videos} (").partition("); left out: ")[0]
    assert sorted(kinds.split(", ")) == ["1 mkv", "1 mov", "1 mp4"]
    for part in (
        "2 txt, 1 without a suffix, 1 part (not a suffix of video or audio)",
        "2 mp4 (hidden)",
        "1 mp3 (a suffix of audio without video)",
        "1 mp4 (broken link)",
        "1 mp4 (no regular file)",
    ):
        assert part in output
    data = Dataset.open(out)
    assert data.summary["states"] == {"ok": 3}
    counts = {(one["reason"], one["suffix"]): one["number"] for one in data.summary["left_out"]}
    assert counts["not a suffix of video or audio", "txt"] == 2
    assert sum(counts.values()) == 9


def test_the_counts_are_in_the_json_of_prepare(clip: Path, tmp_path: Path) -> None:
    touch(tmp_path / "videos", "notes.txt")
    (tmp_path / "videos" / "a.mp4").hardlink_to(clip)
    result = run("prepare", "folder", tmp_path / "videos", "--out", tmp_path / "out", "--json", *SMALL)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    wanted = [{"reason": "not a suffix of video or audio", "suffix": "txt", "number": 1}]
    assert events[-1]["left_out"] == wanted
    assert events[0]["line"].endswith("; left out: 1 txt (not a suffix of video or audio)")
    again = run("prepare", "folder", tmp_path / "videos", "--out", tmp_path / "out", "--json", *SMALL)
    assert json.loads(again.stdout.splitlines()[-1])["left_out"] == wanted


def test_every_kind_of_video_is_prepared(tmp_path: Path) -> None:
    """One file of each suffix that ffmpeg writes with both streams."""
    (tmp_path / "videos").mkdir()
    names = [
        f"clip{n}.{suffix}" for n, suffix in enumerate(("ts", "MTS", "m2ts", "mpg", "VOB", "flv", "wmv"))
    ]
    for name in names:
        source = ("-f", "lavfi", "-i", "testsrc2=d=2:s=64x64", "-f", "lavfi", "-i", "sine=d=2")
        run_ffmpeg(*source, "-pix_fmt", "yuv420p", tmp_path / "videos" / name)
    code, output = prepare("folder", tmp_path / "videos", "--out", tmp_path / "out", *SMALL)
    assert code == 0, output
    rows = Plan.read(tmp_path / "out" / "plan.parquet").table.to_pylist()
    assert sorted(Path(row["source"]).name for row in rows) == sorted(names)


def test_links_to_folders_are_followed_and_circles_stop(tmp_path: Path) -> None:
    top, other = tmp_path / "videos", tmp_path / "other"
    touch(top, "a.mp4", "sub/b.mp4")
    touch(other, "c.mp4", "deep/d.mp4")
    (top / "sub" / "up").symlink_to(top)  # a circle
    (top / "self").symlink_to(top / "self")  # a link to itself
    (top / "link").symlink_to(other)
    (top / "z-again").symlink_to(other / "deep")  # reached by `link` too
    (top / "sub-too").symlink_to(top / "sub")  # lies in the folder itself
    (other / "back").symlink_to(top)
    assert found(top) == ["a.mp4", "link/c.mp4", "link/deep/d.mp4", "sub/b.mp4"]
    assert left_out(top) == {
        ("a folder that is searched under another path", FOLDER): 4,
        ("broken link", ""): 1,
    }


def test_a_link_to_a_folder_above_is_no_way_out(tmp_path: Path) -> None:
    touch(tmp_path, "private.mp4", "videos/a.mp4")
    (tmp_path / "videos" / "up").symlink_to("..")
    (tmp_path / "videos" / "root").symlink_to("/")
    assert found(tmp_path / "videos") == ["a.mp4"]


def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "real", "a.mp4")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == ["a.mp4"]


def test_a_linked_folder_is_prepared(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.mp4").hardlink_to(clip)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "disk").symlink_to(tmp_path / "disk")
    code, output = prepare("folder", tmp_path / "videos", "--out", tmp_path / "out", *SMALL)
    assert code == 0, output
    assert Dataset.open(tmp_path / "out").summary["states"] == {"ok": 1}


def test_what_is_no_file_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "folder.mp4/b.mp4")
    Path(str(tmp_path) + "/\udcff.mp4").touch()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(tmp_path / "socket.mp4"))
        counts = left_out(tmp_path)
    assert counts == {("no regular file", "mp4"): 1, ("a name that is not UTF-8; rename it", "mp4"): 1}
    assert found(tmp_path) == ["a.mp4", "folder.mp4/b.mp4"]


def test_a_folder_that_may_not_be_listed_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.mp4", "locked/b.mp4")
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found(tmp_path) == ["a.mp4"]
    assert left_out(tmp_path) == {("no permission to list it", FOLDER): 1}


def test_a_folder_without_videos_names_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "a.jpg", "b.mp3")
    code, output = prepare("folder", tmp_path / "videos", "--out", tmp_path / "out")
    assert code == 1
    assert "1 jpg (not a suffix of video or audio), 1 mp3 (a suffix of audio without video)" in output


def test_embed_looks_for_the_videos_of_prepare_and_for_audio(tmp_path: Path) -> None:
    names = [f"a{n}{suffix}" for n, suffix in enumerate(sorted(MEDIA_SUFFIXES))]
    touch(tmp_path, *names)
    everything = find_media(tmp_path, MEDIA_SUFFIXES)
    assert (sorted(everything.paths), everything.left_out.records()) == (sorted(names), [])
    assert set(found(tmp_path)) == {name for name in names if Path(name).suffix in VIDEO_SUFFIXES}


def test_many_suffixes_are_shortened_for_people(tmp_path: Path) -> None:
    touch(tmp_path, *[f"x.s{n:02d}" for n in range(20)])
    assert (
        find_media(tmp_path, VIDEO_SUFFIXES)
        .left_out.describe()
        .endswith("1 s11, 8 of other suffixes (not a suffix of video or audio)")
    )


def test_a_name_with_a_newline_is_one_clip(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a\nb.mp4").hardlink_to(clip)
    result = run("prepare", "folder", tmp_path / "videos", "--out", tmp_path / "out", *SMALL)
    assert result.exit_code == 0, output_text(result)
    assert f"1 videos in {tmp_path / 'videos'} (1 mp4)" in output_text(result)
    assert Dataset.open(tmp_path / "out").summary["states"] == {"ok": 1}
