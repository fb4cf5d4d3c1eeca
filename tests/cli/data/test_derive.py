"""Proves `cavsync data subset` and `cavsync data merge`: what they write is what preparing those clips would have written."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from support.command_line import output_text, run
from support.prepared import (
    OPTIONS,
    data,
    flip,
    prepare_vggsound,
    rewrite_index,
    rewrite_tar,
    write_videos,
)

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset

SIZE = ("--shard-size", "3")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In `out`: a, c, d (dogs) and b (a cat) to train on, b and g to test; c is silent, d still, e and f failed."""
    root = tmp_path_factory.mktemp("derive")
    write_videos(root)
    prepare_vggsound(root)
    return root


def prepared_from(root: Path, name: str, lines: list[str]) -> Path:
    """What `prepare` makes of a list with these lines."""
    (root / f"{name}.csv").write_text("\n".join([*lines, ""]))
    paths = ("--list", root / f"{name}.csv", "--videos", root / "videos", "--out", root / name)
    result = run("prepare", "vggsound", *paths, *OPTIONS)
    assert result.exit_code == 0, result.output
    return root / name


def subset(root: Path, *options: str | Path) -> Result:
    return data("subset", root / "out", *SIZE, *options)


def tars(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((dataset / "shards").iterdir())}


def keys(dataset: Path, split: str = "all") -> list[str]:
    return sorted(key.split("_")[0] for key in Dataset.open(dataset).index(split)["key"])


def test_a_subset_has_the_bytes_that_preparing_its_clips_makes(root: Path) -> None:
    result = subset(root, "--out", root / "dogs", "--label", "dog", "--keep", "not silent")
    assert result.exit_code == 0, result.output
    expected = prepared_from(root, "expected", ["a,0,dog,train", "d,0,dog,train", "g,0,dog,test"])
    assert tars(root / "dogs") == tars(expected)
    ours, theirs = (Dataset.open(one).summary for one in (root / "dogs", expected))
    same = ("shards", "states", "num_listed", "notes", "splits", "mel_mean", "mel_std", "config")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert ours["labels"] == Dataset.open(root / "out").summary["labels"]  # a class keeps its number
    assert data("validate", root / "dogs").exit_code == 0


def test_a_subset_says_what_it_was_made_of(root: Path) -> None:
    (root / "keys.txt").write_text("a_00000000\ng_00000000\ne_00000000\n")
    result = subset(root, "--out", root / "two", "--keys", root / "keys.txt", "--split", "train")
    assert "1 of the 3 keys" in output_text(result)
    assert "e_00000000" in output_text(result)
    assert keys(root / "two") == ["a"]
    history = Dataset.open(root / "two").summary["history"]
    (of,) = history["of"]
    assert of["states"] == Dataset.open(root / "out").summary["states"]
    assert history["selection"]["splits"] == ["train"]
    assert history["selection"]["keys"]["number"] == 3


def test_a_larger_share_holds_the_clips_of_a_smaller_one(root: Path) -> None:
    chosen = []
    for share in ("0.5", "0.8", "1"):
        out = root / f"share{share}"
        assert subset(root, "--out", out, "--share", share, "--seed", "1").exit_code == 0
        chosen.append(set(Dataset.open(out).index("all")["key"]))
    assert chosen[0] < chosen[1] <= chosen[2]
    assert len(chosen[2]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "valid"), "No usable clip has the split 'valid'; there are 2: test, train."),
        (("--label", "dogs"), "No usable clip has the label 'dogs'; there are 2: cat, dog."),
        (("--keep", "duration > 5"), '"duration_s"'),
        (("--keep", "duration_s > 50"), "--keep 'duration_s > 50' leaves none of 6 clips."),
        (("--share", "1.5"), "--share 1.5 is no share of the clips"),
        (("--keys", "none.txt"), "none.txt cannot be read as a list of keys"),
    ],
)
def test_a_selection_that_cannot_be_made_is_refused_and_nothing_is_written(
    root: Path, options: tuple[str, ...], message: str
) -> None:
    result = subset(root, "--out", root / "refused", *options)
    assert result.exit_code != 0
    assert message in output_text(result)
    assert not (root / "refused").exists()


def test_merging_the_subsets_by_split_gives_the_dataset_again(root: Path) -> None:
    for split in ("train", "test"):
        assert subset(root, "--out", root / f"only-{split}", "--split", split).exit_code == 0
    assert (
        data("merge", root / "only-train", root / "only-test", "--out", root / "merged", *SIZE).exit_code == 0
    )
    assert subset(root, "--out", root / "whole").exit_code == 0
    assert tars(root / "merged") == tars(root / "whole")
    assert keys(root / "merged", "test") == ["b", "g"]
    assert data("validate", root / "merged").exit_code == 0


def test_a_clip_of_two_datasets_is_taken_from_the_first_and_a_video_in_both_roles_is_named(
    root: Path,
) -> None:
    other = prepared_from(root, "other", ["a,0,bird,train", "b,1,cat,train"])
    result = data("merge", root / "out", other, "--out", root / "both", *SIZE)
    assert result.exit_code == 0, result.output
    assert "1 videos have clips in a training split and in a test split: b" in output_text(result)
    summary = Dataset.open(root / "both").summary
    assert summary["states"] == {"duplicate": 2, "ok": 6}
    assert summary["labels"] == ["cat", "cow", "dog", "bird"]
    rows = pd.concat(map(pd.read_parquet, sorted((root / "both" / "index").iterdir()))).set_index("clip_id")
    assert sorted(rows.loc["a", "reason"].fillna("")) == ["", "a_00000000 is in an earlier dataset too"]


def test_two_videos_of_one_name_are_named_when_datasets_are_merged(root: Path) -> None:
    """Both of `other` have the keys of clips in `out`, and the frames of one of them only."""
    shutil.copy(root / "videos" / "a.mp4", root / "a.mp4")
    shutil.copy(root / "videos" / "d.mp4", root / "videos" / "a.mp4")
    try:
        other = prepared_from(root, "renamed", ["a,0,dog,train", "c,0,dog,train"])
    finally:
        shutil.copy(root / "a.mp4", root / "videos" / "a.mp4")
    result = data("merge", root / "out", other, "--out", root / "one-name", *SIZE)
    assert result.exit_code == 0, result.output
    assert (
        "1 clips that an earlier dataset has too, by their keys, have other frames: a_00000000"
        in output_text(result)
    )


def test_clips_that_another_version_described_by_other_fields_are_copied(root: Path) -> None:
    """The `.json` of one clip has another order of fields, as many bytes, and the index its checksum."""
    older = root / "older"
    shutil.copytree(root / "out", older)
    row = Dataset.open(older).index("train").iloc[0]
    start, size = int(row["json_offset"]), int(row["json_size"])

    def reordered(content: bytearray) -> None:
        text = bytes(content[start : start + size])
        content[start : start + size] = (
            json.dumps(dict(reversed(json.loads(text).items())), ensure_ascii=False, separators=(",", ":"))
            .encode()
            .ljust(size)
        )
        assert len(content[start : start + size]) == size

    rewrite_tar(older, row["shard"], reordered)
    tar = DatasetPaths(older).tar(row["shard"]).read_bytes()
    spans = [*zip(row["frame_offset"], row["frame_size"], strict=True), (start, size)]
    spans.append((int(row["mel_offset"]), int(row["mel_size"])))
    crc = zlib.crc32(b"".join(tar[first : first + length] for first, length in spans))

    def with_checksum(rows: list[dict[str, Any]]) -> None:
        next(one for one in rows if one["key"] == row["key"])["crc32"] = crc

    rewrite_index(older, row["shard"], with_checksum)
    assert data("validate", older).exit_code == 0
    result = data("subset", older, "--out", root / "of-older", *SIZE)
    assert result.exit_code == 0, result.output
    assert data("validate", root / "of-older").exit_code == 0
    assert keys(root / "of-older") == keys(older)


def test_datasets_that_were_prepared_differently_are_not_merged(root: Path) -> None:
    (root / "small.csv").write_text("a,0,dog,train\n")
    paths = ("--list", root / "small.csv", "--videos", root / "videos", "--out", root / "small")
    assert run("prepare", "vggsound", *paths, "--num-frames", "4", "--frame-size", "16").exit_code == 0
    result = data("merge", root / "out", root / "small", "--out", root / "refused")
    assert result.exit_code == 1
    assert f"frame_size is 32 in {root / 'out'} and 16 in {root / 'small'}" in output_text(result)


def test_a_second_run_goes_on_and_another_selection_is_refused(root: Path) -> None:
    out = root / "again"
    assert subset(root, "--out", out).exit_code == 0
    before = tars(out)
    (out / "done" / "train-00000.json").unlink()
    (out / "dataset.json").unlink()
    assert subset(root, "--out", out).exit_code == 0
    assert tars(out) == before
    result = subset(root, "--out", out, "--label", "dog")
    assert result.exit_code == 1
    assert f"{out} holds another dataset" in output_text(result)


def test_damaged_bytes_are_not_copied(root: Path) -> None:
    damaged = root / "damaged"
    shutil.copytree(root / "out", damaged)
    row = Dataset.open(damaged).index("train").iloc[0]
    flip(
        DatasetPaths(damaged).tar(row["shard"]), int(row["frame_offset"][0]) + int(row["frame_size"][0]) // 2
    )
    result = data("subset", damaged, "--out", root / "refused")
    assert result.exit_code == 1
    assert f"{row['key']} is damaged in {damaged}, shard {row['shard']}" in output_text(result)


def test_json_is_the_summary_of_the_dataset(root: Path) -> None:
    result = subset(root, "--out", root / "json", "--json")
    assert json.loads(result.stdout) == Dataset.open(root / "json").summary
