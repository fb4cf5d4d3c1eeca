"""Proves that lists of ids or of names without a suffix find their files, and that sub-folders give labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.command_line import prepare, run
from support.labelled_shards import pretrained
from support.media import write_clip
from support.prepared import data

from cavsync.pipeline.media.demuxing.formats import VIDEO_SUFFIXES

SMALL = ("--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 12 s, longer than a clip."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, 12.0, size=(64, 48))
    return path


@pytest.fixture
def videos(clip: Path, tmp_path: Path) -> Path:
    """a.mp4, b.MKV, more/c.webm and d.mp4 (by its content all are mp4)."""
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.mp4", "b.MKV", "more/c.webm", "d.mp4"):
        shutil.copy(clip, folder / name)
    return folder


def from_list(videos: Path, text: str, *options: str) -> tuple[int, str]:
    path = videos.parent / "list.csv"
    path.write_text(text)
    return prepare("manifest", path, "--videos", videos, "--out", videos.parent / "out", *SMALL, *options)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for path in out.glob("index/*") for row in pq.read_table(path).to_pylist()}


def test_ids_alone_are_the_first_ten_seconds_of_the_files_of_that_name(videos: Path) -> None:
    code, text = from_list(videos, "id,label,split\na,dog,train\nb,cat,train\nc,dog,test\nlost,cow,train\n")
    assert code == 0, text
    assert "list.csv has no starts: each of its clips is the first 10 s of its file" in text
    assert "3 with a video, 1 without (missing)" in text
    found = rows(videos.parent / "out")
    assert {name: (row["state"], row["split"], row["labels"]) for name, row in found.items()} == {
        "a": ("ok", "train", ["dog"]),
        "b": ("ok", "train", ["cat"]),
        "c": ("ok", "test", ["dog"]),
        "lost": ("missing", "train", ["cow"]),
    }
    for name in "abc":
        assert found[name]["source_start_s"] == 0.0
        assert found[name]["duration_s"] == pytest.approx(10.0, abs=0.02)


def test_a_description_may_have_ids_alone(videos: Path) -> None:
    described = 'name = "mine"\n[splits]\ntrain = "train"\n[[lists]]\nfile = "list.csv"\nsplit = "train"\n'
    (videos.parent / "mine.toml").write_text(described + 'columns = ["id", "label"]\n')
    (videos.parent / "list.csv").write_text("a,dog\nb,cat\n")
    given = ("--videos", videos, "--out", videos.parent / "out", *SMALL)
    code, text = prepare(
        "manifest", videos.parent / "list.csv", "--dataset-file", videos.parent / "mine.toml", *given
    )
    assert code == 0, text
    assert {row["state"] for row in rows(videos.parent / "out").values()} == {"ok"}


def test_names_without_a_suffix_are_files_with_one(videos: Path) -> None:
    code, text = from_list(
        videos, "id,label\na,dog\nb,cat\nmore/c,dog\nd.mp4,cow\ne,cow\n", "--file-column", "id"
    )
    assert code == 0, text
    assert "4 with a video, 1 without (missing)" in text
    found = {
        Path(row["source"]).name: (row["clip_id"], row["state"])
        for row in rows(videos.parent / "out").values()
    }
    assert {name: state for name, (_, state) in found.items()} == {
        "a.mp4": "ok", "b.MKV": "ok", "c.webm": "ok", "d.mp4": "ok", "e": "missing",
    }  # fmt: skip
    assert found["a.mp4"][0] == "a"


def test_every_suffix_of_the_folder_search_is_tried(tmp_path: Path) -> None:
    names = sorted(suffix[1:] for suffix in VIDEO_SUFFIXES)
    for name in names:
        (tmp_path / f"{name}-file.{name}").touch()
    (tmp_path / "list.csv").write_text("file\n" + "".join(f"{name}-file\n" for name in names))
    given = ("--videos", tmp_path, "--out", tmp_path / "out", "--dry-run", *SMALL)
    text = prepare("manifest", tmp_path / "list.csv", *given)[1]
    assert f"{len(names)} of the {len(names)} files that the lists name" in text


def test_a_name_of_several_files_is_refused_with_its_row(videos: Path) -> None:
    shutil.copy(videos / "a.mp4", videos / "a.mkv")
    code, text = from_list(videos, "file\nd\na\n")
    assert code == 1
    assert "line 3: 'a' may be a.mkv or a.mp4; write the whole path" in text
    assert from_list(videos, "file\nd\na.mkv\n")[0] == 0


def test_a_name_without_a_folder_is_found_in_sub_folders(videos: Path) -> None:
    code, text = from_list(videos, "file\nc\na\n")
    assert code == 0, text
    sources = {row["clip_id"]: row["source"] for row in rows(videos.parent / "out").values()}
    assert sorted(sources.values()) == [str(videos / "a.mp4"), str(videos / "more" / "c.webm")]
    (videos / "less").mkdir()
    shutil.copy(videos / "a.mp4", videos / "less" / "c.mp4")
    code, text = from_list(videos, "file\na\nc\n")
    assert code == 1
    assert "line 3: 'c' may be less/c.mp4 or more/c.webm; write the whole path" in text


@pytest.mark.parametrize("column", ["file", "name,file"])
def test_a_name_whose_file_comes_later_is_tried_again_and_may_be_listed_with_others(
    column: str, videos: Path
) -> None:
    ids = ("--id-column", "name") if column == "name,file" else ()
    text = "\n".join(
        [column, *(name if column == "file" else f"{name},{name}" for name in ("a", "late")), ""]
    )
    assert from_list(videos, text, *ids)[0] == 0
    shutil.copy(videos / "a.mp4", videos / "late.mp4")
    longer = text + ("d\n" if column == "file" else "d,d\n")
    code, said = from_list(videos, longer, *ids)
    assert code == 0, said
    assert "The lists have 1 new clips" in said
    code, said = from_list(videos, longer, *ids, "--retry-failed")
    assert "Trying 1 of 1 failed clips again: 1 missing." in said
    assert json.loads((videos.parent / "out" / "dataset.json").read_text())["states"] == {"ok": 3}


def test_a_file_that_has_no_suffix_is_meant_by_its_name(videos: Path) -> None:
    shutil.copy(videos / "a.mp4", videos / "a")
    assert from_list(videos, "file\na\n")[0] == 0
    assert [row["source"] for row in rows(videos.parent / "out").values()] == [str(videos / "a")]


def test_an_id_of_several_files_is_named_with_them(videos: Path) -> None:
    shutil.copy(videos / "a.mp4", videos / "a.mkv")
    code, text = from_list(videos, "id\na\nd\n")
    assert code == 0
    assert "1 names belong to several files, of which the first is taken: a.mkv, a.mp4." in text
    assert rows(videos.parent / "out")["a"]["source"] == str(videos / "a.mkv")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("id,start\na,3\n", "has a column 'start', which may hold times of the clips. Name it with --start-column"),
        ("id,start_s,end\na,3,4\n", "has a column 'end', which may hold times of the clips. Name it with --end-column"),
        ("file,clip_begin\na,3\n", "has a column 'clip_begin'"),
        ("id\na.mp4\n", "'a.mp4' is no id: 1 to 64 letters, digits, - and _ only; where the column names files, give --file-column id"),
        ("name,label\na,dog\n", "has the columns name, label. Say with --id-column or with --file-column"),
        ("file\nx\ny\n", "None of the 2 files that the lists name exists"),
        ("file\nx\ny\n", "Names without a suffix were tried with avi, m4v, mkv"),
    ],
)  # fmt: skip
def test_a_list_that_could_mean_something_else_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    code, said = from_list(tmp_path / "videos", text)
    assert code == 1
    assert complaint in said


def test_sub_folders_give_labels(clip: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    for name in ("dog/a.mp4", "dog/2019/may/b.mp4", "big cat/c.mp4", "top.mp4"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, videos / name)
    command = ("folder", videos, "--out", out, *SMALL, "--labels-from", "folders")
    code, text = prepare(*command)
    assert code == 0, text
    assert "Labels from folders: 2, dog (2 files), big cat (1 files)." in text
    assert (
        f"1 files lie in {videos} itself; their clips have no label, and a classifier needs one of every clip."
        in text
    )
    labels = {Path(row["source"]).name: row["labels"] for row in rows(out).values()}
    assert labels == {"a.mp4": ["dog"], "b.mp4": ["dog"], "c.mp4": ["big cat"], "top.mp4": []}
    assert json.loads((out / "dataset.json").read_text())["labels"] == ["big cat", "dog"]
    stats = json.loads(data("stats", out, "--out", tmp_path / "stats", "--json").stdout)
    assert stats["clips_per_label"] == {"dog": 2, "big cat": 1}
    code, text = prepare(*command[:-2])
    assert (code, "listed with other values" in text) == (1, True)
    (videos / "cow").mkdir()
    shutil.copy(clip, videos / "cow" / "d.mp4")
    assert "1 new clips" in prepare(*command)[1]
    assert json.loads((out / "dataset.json").read_text())["labels"] == ["big cat", "cow", "dog"]


def test_labels_from_folders_are_the_classes_of_a_classifier(clip: Path, tmp_path: Path) -> None:
    videos, out, run_folder = tmp_path / "videos", tmp_path / "out", tmp_path / "run"
    for name in ("dog/a.mp4", "dog/b.mp4", "cat/c.mp4"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, videos / name)
    assert prepare("folder", videos, "--out", out, *SMALL, "--labels-from", "folders")[0] == 0
    fields = ("batch_size=2", "frames_per_clip=2", "validation_split=train")
    sets = [part for assignment in fields for part in ("--set", assignment)]
    sets += ["--epochs", "1", "--device", "cpu", "--json"]
    given = ("--data", out, "--from", pretrained(tmp_path), "--run", run_folder, "--preset", "finetune-tiny")
    result = run("train", "finetune", *given, *sets)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[0])["num_classes"] == 2


def test_labels_from_folders_need_a_sub_folder(clip: Path, tmp_path: Path) -> None:
    code, text = prepare("folder", clip.parent, "--out", tmp_path / "out", "--labels-from", "folders")
    assert code == 1
    assert "--labels-from folders: all 1 videos lie in" in text
