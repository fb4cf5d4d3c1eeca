"""Proves that texts with a byte order mark, and UTF-16 of a spreadsheet, are read as the same text in UTF-8."""

import json
from pathlib import Path

import pytest
from support.command_line import prepare

from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.lists.manifest import read_manifest
from cavsync.pipeline.plan.plan import Plan
from cavsync.train.evaluation.localization.boxes import BoxSet
from cavsync.train.evaluation.retrieval.gallery import Gallery
from cavsync.train.evaluation.segmentation.dataset import PromptedSet
from cavsync.train.inference.media_files import SourceListError, list_files

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]
LAYOUT: VideoLayout = "whole"


def write(path: Path, text: str, encoding: str) -> Path:
    """The text with a byte order mark, and with Windows line ends where it has one."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    ends = text if encoding == "utf-8" else text.replace("\n", "\r\n")
    path.write_bytes((mark + ends).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_list_of_paths(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", "Größe.mp4\n# no path\n\nb c.mp4\nGröße.mp4\n", encoding)
    found = list_files(path)
    assert found.paths == [tmp_path / "Größe.mp4", tmp_path / "b c.mp4"]
    assert found.describe() == f"2 files in {path} (2 mp4); left out: 1 mp4 (named before in the list)"


def test_a_list_of_paths_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.mp4\n\xe9.mp4\n")
    with pytest.raises(SourceListError, match=r"list\.txt is no text in UTF-8"):
        list_files(tmp_path / "list.txt")


TABLES = {
    "own.csv": "id,start_s,label\na,0,Vögel\nb,5,Hund\n",
    "own.tsv": "id\tstart_s\tlabel\na\t0\tVögel\nb\t5\tHund\n",
    "own.txt": "id;start_s;label\na;0;Vögel\nb;5;Hund\n",
    "own.json": json.dumps(
        [{"id": "a", "start_s": 0, "label": "Vögel"}, {"id": "b", "start_s": 5, "label": "Hund"}],
        ensure_ascii=False,
        indent=1,
    ),
    "own.jsonl": '{"id": "a", "start_s": 0, "label": "Vögel"}\n{"id": "b", "start_s": 5, "label": "Hund"}\n',
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", TABLES)
def test_a_list_of_clips(name: str, encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, TABLES[name], encoding)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("no video")
    paths = ("--videos", tmp_path / "videos", "--out", tmp_path / "out", "--layout", LAYOUT)
    code, output = prepare("manifest", path, *paths, "--max-failure-rate", "1")
    assert code == 0, output
    rows = Plan.read(tmp_path / "out" / "plan.parquet").table.to_pylist()
    assert {row["clip_id"]: row["labels"] for row in rows} == {"a": ["Vögel"], "b": ["Hund"]}


@pytest.mark.parametrize("name", ["own.csv", "own.json", "own.jsonl"])
def test_a_list_in_another_encoding_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TABLES[name].encode("latin-1"))
    code, output = prepare("manifest", tmp_path / name, "--videos", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert name in output
    assert "in UTF-8" in output


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_description_of_a_dataset(encoding: str, tmp_path: Path) -> None:
    lists = '[[lists]]\nfile = "a.csv"\ncolumns = ["id", "start_s"]\nsplit = "train"\n'
    text = f'name = "mine"\ntitle = "Größe"\nsplits = {{train = "train"}}\n{lists}'
    assert read_manifest(write(tmp_path / "mine.toml", text, encoding)).title == "Größe"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_boxes_and_the_lists_beside_them(encoding: str, tmp_path: Path) -> None:
    boxes = [{"file": name, "class": "Tür", "bbox": [[0, 0, 1, 1]]} for name in ("a", "b", "c")]
    write(tmp_path / "vggss.json", json.dumps(boxes, ensure_ascii=False), encoding)
    subset = write(tmp_path / "subset.csv", "a.mp4\nb\n", encoding)
    negatives = write(tmp_path / "negatives.csv", "a,b,non-sounding\n", encoding)
    found = BoxSet.open(tmp_path, subset, negatives)
    assert [(row.image, row.audio, row.label) for row in found.rows] == [
        ("a", "a", "Tür"),
        ("a", "b", ""),
        ("b", "b", "Tür"),
    ]
    assert found.num_unlisted == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_prompts_of_a_segmentation(encoding: str, tmp_path: Path) -> None:
    text = "image_location,ade_class,ade_class_id,vggsound_file\na.jpg,Tür,7,b.wav\n"
    write(tmp_path / "prompted_segmentation.csv", text, encoding)
    (row,) = PromptedSet.open(tmp_path).rows
    assert (row.image, row.class_name, row.class_id) == ("a.jpg", "Tür", 7)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("name", "text"), [("a.json", '["x_000030"]'), ("a.txt", "x_000030\n")])
def test_a_gallery(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    assert [one.name for one in Gallery.read(write(tmp_path / name, text, encoding)).entries] == ["x_000030"]
