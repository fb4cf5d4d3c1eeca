"""Proves that datasets, shards and videos in repositories of the Hugging Face hub are read where they lie."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.command_line import output_text, run
from support.known_shards import micro_run, write_known_shards
from support.media import write_clip
from support.servers.dataset_hub import PAGE, dataset_hub

from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import as_path, files_below, num_bytes, read_range, read_through, stamp
from cavsync.train.pretrain.trainer import pretrain

URL = "hf://datasets/me/clips"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    write_known_shards(folder / "datasets/me/clips", num_clips=9, clips_per_shard=2, rows=200)
    return folder


@pytest.fixture
def requests(repositories: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setenv("CAVSYNC_RETRY_TIMEOUT_S", "0")
    with dataset_hub(repositories, monkeypatch) as requests:
        yield requests


def test_folders_of_many_pages_are_listed_whole(repositories: Path, requests: list[str]) -> None:
    local = repositories / "datasets/me/clips"
    assert len(list((local / "shards").iterdir())) == 5 > 2 * PAGE
    found = files_below(as_path(URL), lambda name: True)
    assert sorted(found) == sorted(p.relative_to(local).as_posix() for p in local.rglob("*") if p.is_file())
    assert not list(files_below(as_path(f"{URL}/nothing"), lambda name: True))
    assert as_path(f"{URL}/shards").is_dir()
    assert not as_path(f"{URL}/shards/train-00009.tar").exists()
    assert any("cursor" in request for request in requests)


def test_a_range_of_a_file_is_read_and_no_more(repositories: Path, requests: list[str]) -> None:
    file, local = (
        as_path(f"{URL}/shards/train-00001.tar"),
        repositories / "datasets/me/clips/shards/train-00001.tar",
    )
    assert num_bytes(file) == local.stat().st_size
    assert read_range(file, 1000, 1700) == local.read_bytes()[1000:1700]
    with read_through(file) as stream:
        assert stream.read() == local.read_bytes()
    assert [one.partition(" ")[0] for one in requests if "/resolve/" in one] == ["GET", "GET"]


def test_the_stamp_changes_with_the_content_whatever_its_length(
    repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "datasets/me/clips/a.tar"
    file.parent.mkdir(parents=True)
    stamps = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        with dataset_hub(tmp_path, monkeypatch):
            stamps.append(stamp(as_path(f"{URL}/a.tar")))
    assert stamps[0] != stamps[1]


@pytest.mark.parametrize("root", [URL, f"{URL}@main"])
def test_a_dataset_is_read_as_from_a_disk(root: str, repositories: Path, requests: list[str]) -> None:
    local, there = Dataset.open(repositories / "datasets/me/clips"), Dataset.open(root)
    assert there.summary == local.summary
    pd.testing.assert_frame_equal(there.index("train"), local.index("train"))
    for dataset in (there, local):
        assert dataset.paths.tar("train-00004").is_file()


@pytest.mark.usefixtures("quick_reports", "quick_decoders")
def test_videos_of_a_repository_are_prepared_and_a_dataset_that_was_uploaded_is_inspected(
    repositories: Path, requests: list[str], tmp_path: Path
) -> None:
    videos = repositories / "datasets/me/videos"
    (videos / "b").mkdir(parents=True)
    write_clip(videos / "a.mp4", 1.2)
    shutil.copy(videos / "a.mp4", videos / "b" / "c.mp4")
    options = ("--num-frames", "4", "--frame-size", "32", "--workers", "1")
    for source, out in ((videos, tmp_path / "here"), ("hf://datasets/me/videos", tmp_path / "there")):
        result = run("prepare", "folder", source, "--out", out, *options)
        assert result.exit_code == 0, result.output
    name = "shards/train-00000.tar"
    assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    shutil.copytree(tmp_path / "there", repositories / "datasets/me/prepared")
    dataset = "hf://datasets/me/prepared"
    assert "1 shards are whole" in output_text(run("data", "validate", dataset))
    for command in ("status", "stats", "show"):
        to = () if command == "status" else ("--out", tmp_path / command)
        result = run("data", command, dataset, *to)
        assert result.exit_code == 0, result.output
    assert "data:audio/wav" in (tmp_path / "show" / "contact-sheet.html").read_text()
    result = run("prepare", "folder", videos, "--out", dataset, *options)
    assert "the hub is only read here" in output_text(result)


def test_training_streams_from_a_repository(repositories: Path, requests: list[str], tmp_path: Path) -> None:
    config = micro_run(Path("x"), batch_size=4, num_steps=2)
    weights = []
    for name, path in (("there", URL), ("here", str(repositories / "datasets/me/clips"))):
        data = replace(config.data, source="stream", path=path, num_workers=0)
        run_folder = pretrain(replace(config, data=data), tmp_path / name, device="cpu")
        weights.append(load_file(run_folder.weights))
    assert all(torch.equal(*pair) for pair in zip(weights[0].values(), weights[1].values(), strict=True))


def test_nothing_is_written_there(requests: list[str]) -> None:
    with pytest.raises(StoreError, match=r"the hub is only read here\. Name a folder, and upload that"):
        as_path(f"{URL}/a.txt").create(b"a")
    with pytest.raises(StoreError, match="only read here"):
        as_path(f"{URL}/dataset.json").unlink()
    assert not any(request.startswith("POST") for request in requests)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hf://datasets/me/nothing", "repository not found"),
        ("hf://datasets/forbidden/clips", "403"),
        ("hf://datasets/clips", "Check the address"),
        ("hf://clips", "Check the address"),
    ],
)
def test_an_error_names_what_is_wrong_with_a_repository(url: str, message: str, requests: list[str]) -> None:
    with pytest.raises(StoreError, match=message) as raised:
        Dataset.open(url)
    assert url in str(raised.value)
    assert "repeat the command when it does" not in str(raised.value), "no retry can help"


def test_a_repository_that_is_no_dataset_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets/me/other").mkdir(parents=True)
    (tmp_path / "datasets/me/other/README.md").write_text("other")
    with dataset_hub(tmp_path, monkeypatch), pytest.raises(DatasetError, match="is no prepared dataset"):
        Dataset.open("hf://datasets/me/other")


def test_a_machine_without_network_fails_at_once(
    requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAVSYNC_RETRY_TIMEOUT_S", "60")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StoreError, match="OfflineModeIsEnabled"):
        Dataset.open("hf://datasets/me/unseen")
