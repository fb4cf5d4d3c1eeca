"""Lists are read as they are published, and a broken row is refused with its place."""

from pathlib import Path

import pytest

from cavsync.pipeline.lists import ListError, read_list
from cavsync.pipeline.manifest import ManifestError, load_manifest, parse_manifest

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


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "eval_segments.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(ListError, match="no CSV in UTF-8"):
        list(read_list(path, EVAL))


def test_a_list_is_known_by_name_or_by_shape() -> None:
    assert VGGSOUND.spec_for("my_copy.csv", 2) is TEST
    with pytest.raises(ManifestError, match="has 7 columns, which no list of VGGSound has"):
        VGGSOUND.spec_for("my_copy.csv", 7)


def test_an_unknown_dataset_names_those_that_there_are() -> None:
    with pytest.raises(ManifestError, match="audioset, vggsound"):
        load_manifest("kinetics")


def test_a_manifest_with_unknown_columns_is_refused() -> None:
    with pytest.raises(ManifestError, match="unknown columns"):
        parse_manifest({"splits": {}, "lists": [{"file": "a.csv", "columns": ["ident"]}]})
