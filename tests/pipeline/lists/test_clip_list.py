"""Proves that lists are read as published and as their copies circulate; an error names the broken row."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import prepare

from cavsync.pipeline.lists.clip_list import ListedClip, read_list
from cavsync.pipeline.lists.columns import spec_from_titles
from cavsync.pipeline.lists.manifest import ManifestError, load_manifest
from cavsync.pipeline.lists.tables import ListError

AUDIOSET, VGGSOUND = load_manifest("audioset"), load_manifest("vggsound")
EVAL, TEST = AUDIOSET.spec_for("eval_segments.csv", 4), VGGSOUND.spec_for("test.csv", 2)

AUDIOSET_HEAD = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=2, num_segs=2, num_unique_labels=527, num_positive_labels=3
# YTID, start_seconds, end_seconds, positive_labels
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_audioset_rows_keep_dashes_and_several_labels(tmp_path: Path) -> None:
    text = (
        AUDIOSET_HEAD
        + '--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"\n-_a-bcdefg0, 30.000, 36.500, "/m/03l9g"\n'
    )
    first, second = read_list(write(tmp_path, "eval_segments.csv", text), EVAL)
    assert (first.clip_id, first.start_s, first.end_s) == ("--4gqARaEJE", 0.0, 10.0)
    assert (first.labels, first.split) == (("/m/068hy", "/m/07q6cd_"), "eval")
    assert (second.clip_id, second.end_s, second.listed_in) == ("-_a-bcdefg0", 36.5, "eval_segments.csv:5")


def test_a_row_of_column_names_is_no_clip(tmp_path: Path) -> None:
    text = 'YTID, start_seconds, end_seconds, positive_labels\nabc, 0.0, 10.0, "/m/1"\n'
    assert [clip.clip_id for clip in read_list(write(tmp_path, "eval_segments.csv", text), EVAL)] == ["abc"]


def test_vggsound_rows_hold_labels_with_commas(tmp_path: Path) -> None:
    path = write(
        tmp_path, "vggsound.csv", 'a_b-c,30,"female speech, woman speaking",test\nxyz,5,people eating,train\n'
    )
    first, second = read_list(path, VGGSOUND.spec_for(path.name, 4))
    assert (first.clip_id, first.start_s, first.end_s) == ("a_b-c", 30.0, 40.0)
    assert (first.labels, first.split) == (("female speech, woman speaking",), "test")
    assert second.split == "train"


def test_the_test_list_names_files(tmp_path: Path) -> None:
    (clip,) = read_list(write(tmp_path, "test.csv", "a_b_000300.mp4,playing hammond organ\n"), TEST)
    assert (clip.clip_id, clip.start_s, clip.end_s, clip.split) == ("a_b", 300.0, 310.0, "test")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("../../etc/passwd, 0.0, 10.0, x", "is no id"),
        ("/etc/passwd, 0.0, 10.0, x", "is no id"),
        ("a b, 0.0, 10.0, x", "is no id"),
        (", 0.0, 10.0, x", "is no id"),
        ("abc, zero, 10.0, x", "'zero' is no time in seconds"),
        ("abc, nan, 10.0, x", "'nan' is no time in a video"),
        ("abc, -1, 10.0, x", "'-1' is no time in a video"),
        ("abc, 30.0, 10.0, x", "ends at 10 s and begins at 30 s"),
        ("abc, 0.0, 10.0", "3 columns instead of 4"),
        ("abc, 0.0, 10.0, x, y", "5 columns instead of 4"),
        ("abc\0, 0.0, 10.0, x", "NUL|is no id"),
    ],
)
def test_a_broken_row_is_named(row: str, complaint: str, tmp_path: Path) -> None:
    path = write(tmp_path, "eval_segments.csv", f"{AUDIOSET_HEAD}good, 0.0, 10.0, x\n{row}\n")
    with pytest.raises(ListError, match=complaint) as raised:
        list(read_list(path, EVAL))
    assert "eval_segments.csv" in str(raised.value)
    assert "line 5" in str(raised.value) or "line 4" in str(raised.value)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "vggsound.csv", "abc,0,x,validation\n")
    with pytest.raises(ListError, match="'validation' is not one of the splits train, test"):
        list(read_list(path, VGGSOUND.spec_for(path.name, 4)))


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "eval_segments.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(ListError, match="no CSV in UTF-8"):
        list(read_list(path, EVAL))


def test_a_list_is_known_by_name_or_by_shape() -> None:
    assert VGGSOUND.spec_for("my_copy.csv", 2) is TEST
    with pytest.raises(ManifestError, match="has 7 columns, which no list of VGGSound has"):
        VGGSOUND.spec_for("my_copy.csv", 7)


OFFICIAL = (
    AUDIOSET_HEAD
    + """-_a-bcdefg0, 30.000, 40.000, "/m/068hy,/m/07q6cd_"
ABCDEFGHIJK, 0.000, 10.000, "/m/03l9g"
abcdefghijk, 0.000, 10.000, "/m/03l9g"
"""
)
ROWS = OFFICIAL.removeprefix(AUDIOSET_HEAD)
# As spreadsheets and scripts save it again.
COPIES = {
    "no comments": ROWS.encode(),
    "column titles": b"YTID,start_seconds,end_seconds,positive_labels\n" + ROWS.encode(),
    "no space after commas": OFFICIAL.replace(", ", ",").encode(),
    "everything quoted": b"".join(
        b'"%s"\n' % row.replace('"', "").replace(", ", '","').encode() for row in ROWS.splitlines()
    ),
    "CRLF": OFFICIAL.replace("\n", "\r\n").encode(),
    "byte order mark": b"\xef\xbb\xbf" + ROWS.encode(),
    "UTF-16": OFFICIAL.encode("utf-16"),
    "semicolons": ROWS.replace(", ", ";").encode(),
    "tabs": ROWS.replace(", ", "\t").encode(),
    "tabs, comments as they were": OFFICIAL.replace(", ", "\t").encode(),
    "short numbers": ROWS.replace(".000", "").encode(),
    "one decimal": ROWS.replace(".000", ".0").encode(),
    "empty cells and rows": (OFFICIAL.replace("\n", ",,\n") + ",,,,,\n\n").encode(),
    "quotes taken for text": b"""# Segments csv,,,,
-_a-bcdefg0,30,40," ""/m/068hy","/m/07q6cd_\"""
ABCDEFGHIJK,0,10," ""/m/03l9g\""",
abcdefghijk,0,10,"\""/m/03l9g\""",
""",
    "spaces around": ROWS.replace(", ", " ,  ").replace('"/m/068hy,/m', '" /m/068hy , /m').encode(),
}


def without_row(clips: Sequence[ListedClip]) -> list[ListedClip]:
    return [clip._replace(listed_in="") for clip in clips]


@pytest.mark.parametrize("copy", COPIES)
def test_copies_that_circulate_are_read_alike(copy: str, tmp_path: Path) -> None:
    path = tmp_path / "eval_segments.csv"
    path.write_bytes(COPIES[copy])
    clips = list(read_list(path, EVAL))
    assert [clip.clip_id for clip in clips] == ["-_a-bcdefg0", "ABCDEFGHIJK", "abcdefghijk"]
    assert clips[0][2:5] == (30.0, 40.0, ("/m/068hy", "/m/07q6cd_"))
    official = read_list(write(tmp_path, "official.csv", OFFICIAL), EVAL)
    assert without_row(clips) == without_row(list(official))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("#NAME?, 0.0, 10.0, x", "'#NAME\\?' is what a spreadsheet made of an id"),
        ("1.23457E+10, 0.0, 10.0, x", "'1.23457E\\+10' is no id"),
        ("1234567890, 0.0, 10.0, x", "a spreadsheet that took it for a number cut it short"),
        ("abc, '30,000', 40.0, x".replace("'", '"'), "its comma may stand for a point or for nothing"),
        ("abc, 1E+02, 110, x", r"'1E\+02' is no time in plain notation"),
        ("abc, 1_0, 20, x", "'1_0' is no time in plain notation"),
        ("abc, 0:30, 0:40, x", "'0:30' is no time in seconds"),
        ("abc, 0, 1000, x", "it should last up to 600 s"),
        ('abc, 0.0, 10.0, " ""x", y', "5 columns instead of 4"),
        ('abc, 0.0, 10.0, "x', "this is no CSV in UTF-8"),
        ('abc, 0.0, 10.0, "x\ny"', "is no label"),
        ('"abc\ndef", 0.0, 10.0, x', "is no id"),
    ],
)
def test_values_lost_in_a_copy_are_not_guessed(row: str, complaint: str, tmp_path: Path) -> None:
    path = write(tmp_path, "eval_segments.csv", f"{AUDIOSET_HEAD}good, 0.0, 10.0, x\n{row}\n")
    with pytest.raises(ListError, match=complaint) as raised:
        list(read_list(path, EVAL))
    assert any(f"line {line}" in str(raised.value) for line in (4, 5, 6))


def test_a_name_with_another_time_is_no_clip_of_the_test_list(tmp_path: Path) -> None:
    path = write(tmp_path, "test.csv", "file,label\nabc_5000_15000.mp4,dog\n")
    with pytest.raises(ListError, match=r"line 2: 'abc_5000_15000\.mp4' names no clip"):
        list(read_list(path, TEST))


OWN = [
    {"clip": "-a_b", "from": 1.5, "to": 4, "tags": ["a, b", "c"], "part": "val"},
    {"clip": "-A_b", "from": 0, "to": None, "tags": [], "part": "train"},
]
TITLES = {"id": "clip", "start_s": "from", "end_s": "to", "labels": "tags", "split": "part"}


def own_list(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"own{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json"])
def test_tables_keep_their_types(suffix: str, tmp_path: Path) -> None:
    path = own_list(tmp_path, suffix, OWN)
    first, second = read_list(path, spec_from_titles(path, TITLES))
    assert first[:5] == ("-a_b", "val", 1.5, 4.0, ("a, b", "c"))
    assert second[:5] == ("-A_b", "train", 0.0, 10.0, ())


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_are_found_by_title(separator: str, tmp_path: Path) -> None:
    text = '# mine\nwho,id,label,start_s\nx,-a_b,"woman speaking, female",30\n'.replace(",", separator)
    path = write(tmp_path, "own.csv", text.replace(f"speaking{separator}", "speaking,"))
    no_columns = dict.fromkeys(["id", "start_s", "label", "labels", "file"])
    (clip,) = read_list(path, spec_from_titles(path, no_columns))
    assert clip[:5] == ("-a_b", "train", 30.0, 40.0, ("woman speaking, female",))


HOSTILE = ["../x", "a/../../x", "/etc/passwd", "a\0b", "a\nb", "a\\b", "..\\x", "x" * 5000, "", "\udc80"]


@pytest.mark.parametrize("column", ["id", "file", "split"])
@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_in_a_list_leads_out_of_its_folder(value: str, column: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    good = {"id": "a", "start_s": 0, "file": "a.mp4", "split": "train"}
    path = own_list(tmp_path, ".jsonl", [good, good | {column: value}])
    out = tmp_path / "out"
    code, output = prepare("manifest", path, "--videos", tmp_path / "videos", "--out", out)
    assert code == 1, output
    assert "own.jsonl, line 2: " in output
    assert "is no " in output
    assert not list(out.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("a\nb.mp4", "it has a newline or another character that cannot be printed; rename the file"),
        ("a\\b.mp4", "it has a backslash; write / between folders"),
        ("../b.mp4", "it leads out of the folder"),
        ("/b.mp4", "it leads out of the folder"),
        ("b" * 300, "it is longer than file systems take"),
        (" ", "it is empty"),
    ],
)
def test_a_path_that_cannot_be_used_is_named_with_its_fault(value: str, fault: str, tmp_path: Path) -> None:
    path = own_list(tmp_path, ".jsonl", [{"file": value}])
    code, output = prepare("manifest", path, "--videos", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert f"is no path below the folder of the videos: {fault}" in output


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("clip,when\na,0\n", "has the columns clip, when. Say with --id-column"),
        ("id,start_s\na,0,1\n", "line 2: 3 columns instead of 2"),
        ("id,start_s\na\n", "line 2: 1 columns instead of 2"),
        ("", "has the columns none"),
    ],
)
def test_a_list_without_clip_ids_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = write(tmp_path, "own.csv", text)
    (tmp_path / "a.mp4").touch()
    code, output = prepare("manifest", path, "--videos", tmp_path, "--out", tmp_path / "out")
    assert (code, complaint in output) == (1, True), output


def test_a_wrong_title_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "own.csv", "clip_id,start_s\na,0\n")
    paths = ("--videos", tmp_path, "--out", tmp_path / "out")
    code, output = prepare("manifest", path, *paths, "--id-column", "clip")
    assert code == 1
    assert "has no column 'clip'; did you mean 'clip_id'? It has: clip_id, start_s." in output
    _, output = prepare("manifest", path, *paths, "--id-column", "video")
    assert "has no column 'video'. It has: clip_id, start_s." in output


@pytest.mark.parametrize("name", ["own.parquet", "own.jsonl", "own.json"])
def test_a_list_that_is_no_table_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"<html>" + b"[" * 100_000)
    code, output = prepare("manifest", path, "--videos", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert f"{name} is no Parquet" in output or "this is no JSON in UTF-8" in output


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0,/m/1,Speech\n2,/m/2,Dog\n", "its 2 rows should have the indices 0 to 1, each once"),
        ("0,/m/1,Speech\n1,/m/1,Dog\n", "every mid once"),
        ("a,/m/1,Speech\n", "its column index numbers the classes"),
        ("0,/m/1\n", "line 2: 2 columns instead of 3"),
    ],
)
def test_a_broken_label_list_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "audioset"
    (raw / "videos").mkdir(parents=True)
    write(raw, "eval_segments.csv", OFFICIAL)
    write(raw, "class_labels_indices.csv", f"index,mid,display_name\n{text}")
    code, output = prepare("audioset", "--root", tmp_path)
    assert (code, complaint in output) == (1, True), output


@pytest.fixture(scope="module")
def real_lists() -> Path:
    if "CAVSYNC_REAL_DATA" not in os.environ:
        pytest.skip("CAVSYNC_REAL_DATA names no folder of real lists")
    return Path(os.environ["CAVSYNC_REAL_DATA"]) / "lists"


@pytest.mark.real
@pytest.mark.parametrize(
    ("dataset", "file"),
    [("audioset", "eval_segments.csv"), ("vggsound", "test.csv"), ("vggss", "vggss.json")],
)
def test_official_lists_are_read_to_the_last_row(dataset: str, file: str, real_lists: Path) -> None:
    manifest = load_manifest(dataset)
    (spec,) = [spec for spec in manifest.lists if spec.file == file]
    clips = list(read_list(real_lists / file, spec))
    assert len(clips) == len({(clip.clip_id, clip.start_s) for clip in clips}) == spec.count
    assert {len(clip.clip_id) for clip in clips} == {11}
    assert all(clip.labels for clip in clips)


@pytest.mark.real
def test_a_handful_of_videos_of_the_eval_list_adds_up(real_lists: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "audioset"
    (raw / "videos").mkdir(parents=True)
    for name in ("eval_segments.csv", "class_labels_indices.csv"):
        (raw / name).symlink_to(real_lists / name)
    source = real_lists.parent / "clips" / "KlsG1EnBEjc_000361.mp4"
    for name in ("--4gqARaEJE.mp4", "--BfvyPmVMo_000020.mp4"):
        (raw / "videos" / name).symlink_to(source)
    code, output = prepare("audioset", "--root", tmp_path, "--num-frames", 2, "--frame-size", 32)
    assert code == 0, output
    assert "eval_segments.csv: 20,371 clips Planned" in output
    summary = json.loads((tmp_path / "data" / "audioset" / "dataset.json").read_text())
    assert summary["states"] == {"missing": 20_369, "ok": 2}
    assert len(summary["labels"]) == 527
    assert "Male speech, man speaking" in summary["label_names"]
