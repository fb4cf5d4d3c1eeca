"""Proves that one TOML describes a dataset: the four that ship, and one of the user's, as docs/datasets.md shows."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command_line import prepare
from support.media import write_clip

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.lists.manifest import ManifestError, load_manifest, parse_manifest, read_manifest

PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"
SMALL = ("--num-frames", "2", "--frame-size", "32")
Content = dict[str, Any]


@pytest.mark.parametrize(
    ("name", "counts", "splits"),
    [
        ("audioset", [22160, 2041789, 20371], {"balanced_train", "unbalanced_train", "eval"}),
        ("vggsound", [199467, 15446], {"train", "test"}),
        ("vggss", [5158], {"test"}),
        ("ade20k_sound", [None], {"test"}),
    ],
)
def test_the_shipped_manifests_are_complete(name: str, counts: list[int | None], splits: set[str]) -> None:
    dataset = load_manifest(name)
    assert dataset.name == name
    assert [spec.count for spec in dataset.lists] == counts
    assert set(dataset.splits) == splits
    assert dataset.mel_mean == -5.081
    assert all(spec.comes_from.startswith("http") for spec in dataset.lists)
    assert dataset.licence
    assert dataset.homepage


def test_an_unknown_dataset_names_those_that_there_are() -> None:
    with pytest.raises(ManifestError, match="ade20k_sound, audioset, vggsound, vggss"):
        load_manifest("kinetics")


def test_the_error_for_a_dataset_without_videos_names_its_command(tmp_path: Path) -> None:
    code, output = prepare("manifest", "--dataset-file", "ade20k_sound", "--root", tmp_path)
    assert code == 1
    assert "ADE20K_Sound has no videos to prepare; `cavsync eval segmentation` reads it as it is." in output


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_example_of_the_page_is_prepared(tmp_path: Path) -> None:
    """The page's files, its TOML and its command."""
    description, list_file, labels = fenced("toml")[0], *fenced("csv")
    raw = tmp_path / "raw" / "kitchen"
    (raw / "videos" / "monday").mkdir(parents=True)
    (tmp_path / "kitchen.toml").write_text(description)
    (raw / "clips.csv").write_text(list_file)
    (raw / "labels.csv").write_text(labels)
    write_clip(raw / "videos" / "monday" / "stove.mp4", 12.0)
    write_clip(raw / "videos" / "knife.mp4", 2.0)
    (command,) = [line for line in fenced("sh")[0].splitlines() if "--dataset-file" in line]
    assert command == "cavsync prepare manifest --dataset-file kitchen.toml"
    root = ("--root", tmp_path)
    code, output = prepare("manifest", "--dataset-file", tmp_path / "kitchen.toml", *root, *SMALL)
    assert code == 0, output
    data = Dataset.open(tmp_path / "data" / "kitchen")
    assert data.summary["states"] == {"missing": 1, "ok": 3}
    assert data.summary["splits"] == {"train": "train", "held_out": "test"}
    assert data.summary["label_names"] == ["Frying", "Chopping, slowly"]
    assert "clips.csv: 4 clips" in output
    assert "(the published list" not in output
    train = data.index("train")
    (stove,) = train[train["start_s"] == 4].to_dict("records")
    assert stove["clip_id"].startswith("stove-")  # and a hash, as the file lies in a sub-folder
    assert stove["labels"].tolist() == ["fry"]
    assert stove["duration_s"] == pytest.approx(6.0, abs=0.05)


def test_the_first_clip_of_a_list_with_files_is_cut_at_its_times(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "one.mp4", 8.0)
    (tmp_path / "own.csv").write_text("file,start_s,end_s,split\none.mp4,2,4,val\ngone.mp4,0,4,val\n")
    out = tmp_path / "out"
    code, output = prepare("manifest", tmp_path / "own.csv", "--videos", tmp_path, "--out", out, *SMALL)
    assert code == 0, output
    assert "1 of the 2 files that the lists name" in output
    data = Dataset.open(out)
    assert data.summary["states"] == {"missing": 1, "ok": 1}
    assert data.summary["splits"] == {"val": "test"}
    (row,) = data.index("test").to_dict("records")
    assert (row["key"], row["source"], row["source_start_s"]) == ("one_00002000", str(clip.path), 2.0)
    paths = ("--videos", tmp_path, "--out", tmp_path / "other")
    code, output = prepare("manifest", tmp_path / "own.csv", *paths, "--layout", "cut")
    assert (code, "leave out --layout cut" in output) == (1, True)


def test_a_list_is_named_like_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "-a_b.mp4", 2.0)
    (tmp_path / "-list.csv").write_text("id,start_s\n-a_b,0\n")
    monkeypatch.chdir(tmp_path)
    code, output = prepare("manifest", "--videos", ".", "--out", "out", *SMALL, "--", "-list.csv")
    assert code == 0, output
    assert Dataset.open(tmp_path / "out").index("train")["clip_id"].tolist() == ["-a_b"]


def valid() -> Content:
    return {
        "name": "mine",
        "splits": {"train": "train"},
        "lists": [{"file": "a.csv", "columns": ["id", "start_s"], "split": "train"}],
    }


def test_a_short_description_is_enough() -> None:
    dataset = parse_manifest(valid())
    assert (dataset.title, dataset.mel_mean, dataset.labels) == ("mine", None, None)


def changed(**entries: Any) -> Callable[[Content], Content]:
    return lambda content: content | entries


def changed_list(**entries: Any) -> Callable[[Content], Content]:
    return lambda content: content | {"lists": [content["lists"][0] | entries]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (changed(licens="x"), "unknown key 'licens'; did you mean 'licence'"),
        (
            changed(splits={"train": "learn"}),
            "splits.train = 'learn' cannot be used; it should be test or train",
        ),
        (changed(splits={"a/b": "train"}), "the name of a split = 'a/b' cannot be used"),
        (changed(splits=["train"]), r"splits = \['train'\] cannot be used; it should be a table"),
        (changed(name="../x"), "name = '../x' cannot be used"),
        (changed(name=3), "name = 3 cannot be used; it should be text"),
        (changed(mel_mean="-5"), "mel_mean = '-5' cannot be used; it should be a number"),
        (changed(lists=["a.csv"]), "lists is 'a.csv', no table"),
        (changed(labels={"count": 3}), "labels: file is missing"),
        (changed_list(file="../a.csv"), "file = '../a.csv' cannot be used"),
        (changed_list(columns=["ident", "start_s"]), "unknown columns 'ident'"),
        (changed_list(columns=["id", "start"]), "unknown columns 'start'; did you mean 'start_s'"),
        (changed_list(columns=["start_s"]), "its columns name neither name, file, nor id"),
        (changed_list(columns=["id", "id", "start_s"]), "a column is named twice"),
        (changed_list(columns={"id": 3}), "columns of a.csv = 3 cannot be used"),
        (changed_list(split="test"), "split of a.csv = 'test' cannot be used; it should be train"),
        (changed_list(titles=["x"]), "lists: unknown key 'titles'"),
        (lambda content: {key: content[key] for key in ("name", "splits")}, "the file: lists is missing"),
    ],
)
def test_a_wrong_description_is_refused(change: Callable[[Content], Content], complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint):
        parse_manifest(change(valid()))


def test_a_file_that_is_no_description_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("name = ")
    with pytest.raises(ManifestError, match=r"a\.toml: Invalid value"):
        read_manifest(tmp_path / "a.toml")
    with pytest.raises(ManifestError, match=r"b\.toml is no file"):
        read_manifest(tmp_path / "b.toml")


def test_every_key_of_the_shipped_manifests_is_documented() -> None:
    folder = PAGE.parents[3] / "manifests"
    used = {key for path in folder.glob("*.toml") for key in tomllib.loads(path.read_text())}
    assert all(f"`{key}`" in PAGE.read_text() for key in used)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Name a list to prepare"),
        (("a.csv",), "--videos names the folder"),
        (("a.csv", "--videos", "v"), "--out names the folder"),
        (("--dataset-file", "vggss", "--id-column", "x"), "--dataset-file names the columns"),
    ],
)
def test_the_error_for_wrong_usage_names_the_way_out(arguments: tuple[str, ...], complaint: str) -> None:
    code, output = prepare("manifest", *arguments)
    assert code == 2
    assert complaint in output
