"""Proves that lists lose no clip and no label: two files of one name are two clips, and two rows of a clip give both labels."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from support.command_line import prepare
from support.media import write_clip

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.lists.names import FileIds, hashed_id

SMALL = ("--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip of 1.5 s and one of 2 s."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        name: write_clip(folder / f"{name}.mp4", seconds, size=(32, 32)).path
        for name, seconds in (("short", 1.5), ("long", 2.0))
    }


def own(root: Path, *lists: str, out: str = "out") -> tuple[int, str]:
    paths = ("--videos", root / "videos", "--out", root / out)
    return prepare("manifest", *[root / name for name in lists], *paths, *SMALL)


def write(root: Path, name: str, *rows: str) -> None:
    (root / name).write_text("\n".join([*rows, ""]))


def put(root: Path, files: dict[str, Path]) -> None:
    for name, path in files.items():
        target = root / "videos" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(path)


def rows_of(root: Path, out: str = "out") -> pd.DataFrame:
    """The rows of all clips, in any state."""
    tables = [pd.read_parquet(path) for path in sorted((root / out / "index").iterdir())]
    return pd.concat(tables, ignore_index=True)


def durations(root: Path, out: str = "out") -> dict[str, float]:
    """Path below the folder of the videos -> seconds of the clip."""
    rows = Dataset.open(root / out).index("train")
    names = rows["source"].str.removeprefix(f"{root}/videos/")
    return dict(zip(names, rows["duration_s"].round(1), strict=True))


FILES = ["c.mp4", "c.mov", "a/c.mp4", "b/c.mp4"]


def four(root: Path, clips: dict[str, Path]) -> dict[str, float]:
    """Four files of one name, and their lengths."""
    kinds = ["short", "long", "long", "short"]
    put(root, {name: clips[kind] for name, kind in zip(FILES, kinds, strict=True)})
    return dict(zip(FILES, (1.5, 2.0, 2.0, 1.5), strict=True))


def test_files_of_one_name_in_a_list_are_clips_of_their_own(clips: dict[str, Path], tmp_path: Path) -> None:
    wanted = four(tmp_path, clips)
    write(tmp_path, "own.csv", "file", *FILES)
    code, output = own(tmp_path, "own.csv")
    assert code == 0, output
    assert Dataset.open(tmp_path / "out").summary["states"] == {"ok": 4}
    assert durations(tmp_path) == wanted


def test_files_of_one_name_in_two_lists_are_clips_of_their_own(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    wanted = four(tmp_path, clips)
    write(tmp_path, "one.csv", "file", "c.mp4", "a/c.mp4")
    write(tmp_path, "two.csv", "file", "c.mov", "b/c.mp4", "./c.mp4")
    code, output = own(tmp_path, "one.csv", "two.csv")
    assert code == 0, output
    assert Dataset.open(tmp_path / "out").summary["states"] == {"duplicate": 1, "ok": 4}
    assert durations(tmp_path) == wanted


def test_files_keep_their_ids_when_others_are_listed_before_them(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    wanted = four(tmp_path, clips)
    write(tmp_path, "own.csv", "file", "b/c.mp4", "c.mov")
    assert own(tmp_path, "own.csv")[0] == 0
    before = rows_of(tmp_path).set_index("source")["key"]
    write(tmp_path, "own.csv", "file", *FILES)
    code, output = own(tmp_path, "own.csv")
    assert code == 0, output
    assert "2 new clips" in output
    assert durations(tmp_path) == wanted
    assert rows_of(tmp_path).set_index("source")["key"].loc[before.index].equals(before)


def test_files_of_a_folder_keep_their_ids_and_splits_when_it_grows(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    put(tmp_path, {"b/c.mp4": clips["short"], "z.mp4": clips["short"]})
    command = ("folder", tmp_path / "videos", "--out", tmp_path / "out", "--test-fraction", "0.5", *SMALL)
    code, output = prepare(*command)
    assert code == 0, output
    before = rows_of(tmp_path).set_index("source")[["key", "split"]]
    put(tmp_path, {"a/c.mp4": clips["long"], "c.avi": clips["long"], "c.mov": clips["long"]})
    code, output = prepare(*command)
    assert code == 0, output
    assert "3 new clips" in output
    after = rows_of(tmp_path).set_index("source")[["key", "split"]]
    assert after.loc[before.index].equals(before)
    assert after["key"].is_unique
    assert Dataset.open(tmp_path / "out").summary["states"] == {"ok": 5}


def test_ids_differ_where_hashes_of_paths_agree() -> None:
    ids = FileIds({"/planned": hashed_id("a/c.mp4")})
    assert ids.of("/new", "a/c.mp4", is_plain=False) == hashed_id("a/c.mp4", 16)


def labels(root: Path, clip_id: str) -> list[list[str]]:
    """Of every row of the clip: the one in state ok first."""
    rows = rows_of(root).query("clip_id == @clip_id").sort_values("state", ascending=False)
    return [list(one) for one in rows["labels"]]


def test_a_clip_in_two_rows_has_the_labels_of_both(clips: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, {"x.mp4": clips["short"], "y.mp4": clips["short"]})
    header = "id,start_s,label"
    write(tmp_path, "own.csv", header, "x,0,dog", "y,0,cat", "x,0,bird", "x,0,dog")
    write(tmp_path, "more.csv", header, "x,0,ant", "y,0,cat")
    code, output = own(tmp_path, "own.csv", "more.csv")
    assert code == 0, output
    assert "4 rows list a clip again (duplicate); their labels are added to those of its first row." in output
    assert labels(tmp_path, "x")[0] == ["dog", "bird", "ant"]
    assert labels(tmp_path, "y")[0] == ["cat"]
    summary = Dataset.open(tmp_path / "out").summary
    assert summary["states"] == {"duplicate": 4, "ok": 2}
    assert summary["labels"] == ["ant", "bird", "cat", "dog"]


def test_labels_stay_in_their_split(clips: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, {"x.mp4": clips["short"], "y.mp4": clips["short"]})
    rows = ("x,0,dog,train", "x,0,bird,test", "x,0,ant,train", "y,0,cat,test")
    write(tmp_path, "own.csv", "id,start_s,label,split", *rows)
    code, output = own(tmp_path, "own.csv")
    assert code == 0, output
    assert "1 rows list a clip again (duplicate); their labels" in output
    assert "1 rows list a clip that is in another split before (duplicate); it stays there" in output
    data = Dataset.open(tmp_path / "out")
    assert [list(one) for one in data.index("train")["labels"]] == [["dog", "ant"]]
    assert data.index("test")["clip_id"].tolist() == ["y"]
    assert ["bird"] in labels(tmp_path, "x")


def test_clips_of_one_start_and_different_ends_are_clips_of_their_own(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    put(tmp_path, {"x.mp4": clips["long"]})
    rows = ["id,start_s,end_s,label", "x,0,2,dog", "x,0,1.5,cat", "x,0,2.0,bird", "x,0,1.5,ant"]
    write(tmp_path, "own.csv", *rows[:3])
    assert own(tmp_path, "own.csv")[0] == 0
    write(tmp_path, "own.csv", *rows[:3], "x,0,1.2,ant")
    code, output = own(tmp_path, "own.csv")
    assert code == 0, output
    ready = Dataset.open(tmp_path / "out").index("train")
    found = {row["key"]: (round(row["duration_s"], 1), list(row["labels"])) for _, row in ready.iterrows()}
    assert found == {
        "x_00000000": (2.0, ["dog"]),
        "x-to-1500_00000000": (1.5, ["cat"]),
        "x-to-1200_00000000": (1.2, ["ant"]),
    }
    write(tmp_path, "own.csv", *rows)
    assert own(tmp_path, "own.csv", out="other")[0] == 0
    ready = Dataset.open(tmp_path / "other").index("train").set_index("key")
    assert list(ready.loc["x_00000000", "labels"]) == ["dog", "bird"]
    assert list(ready.loc["x-to-1500_00000000", "labels"]) == ["cat", "ant"]


def longer(root: Path, clips: dict[str, Path], more: Sequence[str]) -> tuple[int, str]:
    """A preparation whose list gets more rows."""
    put(root, {"x.mp4": clips["short"], "y.mp4": clips["short"]})
    rows = ["id,start_s,label", "x,0,dog", "x,0,bird"]
    write(root, "own.csv", *rows)
    assert own(root, "own.csv")[0] == 0
    write(root, "own.csv", *rows, *more)
    return own(root, "own.csv")


def test_a_longer_list_may_repeat_the_labels_of_planned_clips(clips: dict[str, Path], tmp_path: Path) -> None:
    code, output = longer(tmp_path, clips, ["x,0,dog", "y,0,cat", "y,0,ant"])
    assert code == 0, output
    assert Dataset.open(tmp_path / "out").summary["states"] == {"duplicate": 3, "ok": 2}
    assert (labels(tmp_path, "x")[0], labels(tmp_path, "y")[0]) == (["dog", "bird"], ["cat", "ant"])


def test_a_new_label_of_a_finished_clip_is_refused(clips: dict[str, Path], tmp_path: Path) -> None:
    code, output = longer(tmp_path, clips, ["x,0,ant"])
    assert code == 1
    assert "its labels was dog, bird and is now dog, bird, ant" in output


def test_a_column_that_is_there_twice_is_refused(clips: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, {"x.mp4": clips["short"]})
    write(tmp_path, "own.csv", "id,start_s,label,label", "x,0,dog,bird")
    code, output = own(tmp_path, "own.csv")
    assert code == 1
    assert "own.csv has 2 columns with the title 'label'. Rename or remove all but one." in output
