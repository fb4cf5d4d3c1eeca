"""Proves which video belongs to which clip, and that the length of a file without a time in its name decides."""

from pathlib import Path

import pandas as pd
import pytest
from support.command_line import prepare
from support.media import write_clip

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.lists.videos import SourceError, listed_files
from cavsync.pipeline.plan.plan import Plan

SMALL = ("--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")
IDS = [f"-Upload_{n:03d}" for n in range(4)]


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Files by their length in seconds."""
    folder = tmp_path_factory.mktemp("lengths")
    return {
        seconds: write_clip(folder / f"{seconds}.mp4", seconds, 10, (32, 32)).path
        for seconds in (3, 10, 25, 45)
    }


def vggsound(folder: Path, videos: dict[str, Path], starts_s: dict[str, int]) -> tuple[str | Path, ...]:
    """Arguments that prepare the named videos as VGGSound."""
    (folder / "videos").mkdir()
    for name, path in videos.items():
        (folder / "videos" / name).symlink_to(path)
    rows = [f"{clip_id},{start_s},dog,train" for clip_id, start_s in starts_s.items()]
    (folder / "v.csv").write_text("\n".join([*rows, ""]))
    paths = ("--list", folder / "v.csv", "--videos", folder / "videos", "--out", folder / "out")
    return ("vggsound", *paths, *SMALL)


def starts_inside(out: Path) -> dict[str, float]:
    rows = Plan.read(out / "plan.parquet").table.to_pylist()
    return {row["clip_id"]: row["source_start_s"] for row in rows}


LATE = dict.fromkeys(IDS, 30)


def test_long_files_are_whole_uploads(tmp_path: Path, lengths: dict[int, Path]) -> None:
    videos = {f"{one}.mp4": lengths[45] for one in IDS[:3]} | {f"{IDS[3]}_000030.mp4": lengths[10]}
    code, output = prepare(*vggsound(tmp_path, videos | {"A talk (1).mp4": lengths[3]}, LATE))
    assert code == 0, output
    assert "5 videos in" in output
    assert "(5 mp4): 3 whole uploads, 1 cut clips, 1 other" in output
    assert starts_inside(tmp_path / "out") == {**dict.fromkeys(IDS[:3], 30.0), IDS[3]: 0.0}


def test_files_that_end_before_their_clip_begins_were_cut(tmp_path: Path, lengths: dict[int, Path]) -> None:
    videos = {f"{one}.mp4": lengths[10] for one in IDS}
    code, output = prepare(*vggsound(tmp_path, videos, LATE))
    assert code == 0, output
    assert ": 0 whole uploads, 4 cut clips, 0 other" in output
    assert Dataset.open(tmp_path / "out").summary["states"] == {"ok": 4}
    assert set(starts_inside(tmp_path / "out").values()) == {0.0}


def test_where_files_disagree_the_user_is_asked(tmp_path: Path, lengths: dict[int, Path]) -> None:
    videos = {f"{one}.mp4": lengths[length] for one, length in zip(IDS, (45, 10, 45, 10), strict=True)}
    arguments = vggsound(tmp_path, videos, LATE)
    code, output = prepare(*arguments)
    assert code == 1
    assert (
        "-Upload_000.mp4 lasts 45.0 s and its clip 10 s, but -Upload_001.mp4 lasts 10.0 s and its clip"
        in output
    )
    assert "Say with --layout whole or --layout cut" in output
    code, output = prepare(*arguments, "--layout", "cut")
    assert code == 0, output
    assert set(starts_inside(tmp_path / "out").values()) == {0.0}


def test_some_downloads_that_stopped_early_do_not_matter(tmp_path: Path, lengths: dict[int, Path]) -> None:
    videos = {f"{one}.mp4": lengths[length] for one, length in zip(IDS, (45, 10, 45, 45), strict=True)}
    code, output = prepare(*vggsound(tmp_path, videos, LATE))
    assert code == 0, output
    assert Dataset.open(tmp_path / "out").summary["states"] == {"ok": 3, "too_short": 1}


def test_a_file_of_undecided_length_is_taken_for_the_upload(tmp_path: Path, lengths: dict[int, Path]) -> None:
    starts_s = dict(zip(IDS, (0, 5, 0, 0), strict=True))
    code, output = prepare(*vggsound(tmp_path, {f"{one}.mp4": lengths[10] for one in IDS}, starts_s))
    assert code == 0, output
    assert starts_inside(tmp_path / "out") == starts_s


def vggsound_of(folder: Path, videos: dict[str, Path], *rows: str) -> tuple[str | Path, ...]:
    """As `vggsound`, with rows "id,start" of which some have the same id."""
    arguments = vggsound(folder, videos, {})
    (folder / "v.csv").write_text("".join(f"{row},dog,train\n" for row in rows))
    return arguments


def states(out: Path) -> dict[str, str]:
    frames = [pd.read_parquet(path) for path in (out / "index").iterdir()]
    rows = pd.concat(frames, ignore_index=True)
    return dict(zip(rows["key"], rows["state"], strict=True))


@pytest.mark.parametrize("rows", [("a,0", "a,100"), ("a,100", "a,0"), ("a,100", "a,200", "a,0")])
def test_a_short_file_with_several_clips_is_an_upload_cut_short(
    rows: tuple[str, ...], tmp_path: Path, lengths: dict[int, Path]
) -> None:
    code, output = prepare(*vggsound_of(tmp_path, {"a.mp4": lengths[3]}, *rows))
    assert code == 0, output
    assert ": 1 whole uploads, 0 cut clips" in output
    late = {f"a_{row.split(',')[1]}000" for row in rows} - {"a_0000"}
    found = states(tmp_path / "out")
    assert "prepare them with --layout cut into another --out" in output
    assert found.pop("a_00000000") == "ok"
    assert (len(found), set(found.values())) == (len(late), {"too_short"})


def test_a_cut_clip_named_by_its_id_is_none_of_several_clips(
    tmp_path: Path, lengths: dict[int, Path]
) -> None:
    files = {f"{one}.mp4": lengths[10] for one in (*IDS[:3], "a")} | {"b_000100.mp4": lengths[3]}
    rows = [*[f"{one},30" for one in IDS[:3]], "a,0", "a,100", "b,0", "b,100"]
    arguments = vggsound_of(tmp_path, files, *rows)
    code, output = prepare(*arguments)
    assert code == 0, output
    assert "2 clips are missing because a cut clip named by an id alone may be any of the listed" in output
    found = states(tmp_path / "out")
    assert [found[f"a_{start}"] for start in ("00000000", "00100000")] == ["missing", "missing"]
    assert (found["b_00000000"], found["b_00100000"]) == ("missing", "ok")
    assert [found[f"{one}_00030000"] for one in IDS[:3]] == ["ok"] * 3
    (tmp_path / "videos" / "a_000100.mp4").symlink_to(lengths[3])
    assert prepare(*arguments, "--retry-failed")[0] == 0
    assert Dataset.open(tmp_path / "out").summary["states"] == {"missing": 2, "ok": 5}


def test_a_second_clip_of_a_finished_cut_clip_does_not_get_its_file(
    tmp_path: Path, lengths: dict[int, Path]
) -> None:
    arguments = (*vggsound_of(tmp_path, {"a.mp4": lengths[10]}, "a,30"), "--layout", "cut")
    assert prepare(*arguments)[0] == 0
    with (tmp_path / "v.csv").open("a") as file:
        file.write("a,60,dog,train\n")
    code, output = prepare(*arguments)
    assert code == 0, output
    assert states(tmp_path / "out") == {"a_00030000": "ok", "a_00060000": "missing"}


def test_ids_that_differ_in_case_are_two_clips(tmp_path: Path, lengths: dict[int, Path]) -> None:
    videos = {"ABC_000000.mp4": lengths[3], "abc_000000.mp4": lengths[3]}
    code, output = prepare(*vggsound(tmp_path, videos, {"ABC": 0, "abc": 0}))
    assert code == 0, output
    assert sorted(Dataset.open(tmp_path / "out").index("train")["key"]) == ["ABC_00000000", "abc_00000000"]


def test_a_folder_is_cut_into_all_its_clips(tmp_path: Path, lengths: dict[int, Path]) -> None:
    (tmp_path / "videos").mkdir()
    for seconds, path in lengths.items():
        (tmp_path / "videos" / f"v{seconds}.mp4").symlink_to(path)
    (tmp_path / "videos" / "broken.mp4").write_text("<html>")
    out = tmp_path / "out"
    code, output = prepare("folder", tmp_path / "videos", "--clips", "all", "--out", out, *SMALL)
    assert code == 0, output
    rows = Dataset.open(out).index("train").sort_values("key")
    pieces = rows.groupby("clip_id")["start_s"].apply(list).to_dict()
    assert pieces == {"v3": [0], "v10": [0], "v25": [0, 10, 20], "v45": [0, 10, 20, 30, 40]}
    assert rows["duration_s"].round(1).tolist() == [10, 10, 10, 5, 3, 10, 10, 10, 10, 5]
    assert Dataset.open(out).summary["states"] == {"decode_error": 1, "ok": 10}


def test_layout_is_no_advice_without_a_list_of_ids(tmp_path: Path, lengths: dict[int, Path]) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v.mp4").symlink_to(lengths[3])
    (tmp_path / "own.csv").write_text("file,start_s\nv.mp4,0\nv.mp4,20\n")
    paths = ("--videos", tmp_path / "videos", "--out", tmp_path / "out")
    code, output = prepare("manifest", tmp_path / "own.csv", *paths, *SMALL)
    assert code == 0, output
    assert states(tmp_path / "out") == {"v_00000000": "ok", "v_00020000": "too_short"}
    reasons = pd.read_parquet(tmp_path / "out" / "index")["reason"].dropna().tolist()
    assert "--layout" not in output
    assert "--layout" not in "".join(reasons)


def test_another_choice_of_clips_is_seen(tmp_path: Path, lengths: dict[int, Path]) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v.mp4").symlink_to(lengths[25])
    command = ("folder", tmp_path / "videos", "--out", tmp_path / "out", *SMALL)
    assert prepare(*command)[0] == 0
    code, output = prepare(*command, "--clips", "all")
    assert code == 0, output
    assert "2 new clips" in output
    assert Dataset.open(tmp_path / "out").summary["states"] == {"ok": 3}


def test_files_that_lists_name_are_there_or_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    tree = listed_files(tmp_path, [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), None])
    assert tree.describe().endswith("(1 mp4): 1 of the 2 files that the lists name")
    with pytest.raises(SourceError, match="None of the 1 files that the lists name exists"):
        listed_files(tmp_path, [str(tmp_path / "gone.mp4")])
