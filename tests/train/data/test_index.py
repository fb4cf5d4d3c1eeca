"""Proves the mapped index: the rows of the Parquet index, made once, made again when a shard changed, shared by processes."""

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.known_shards import prepared_row, write_known_shards

from cavsync.pipeline.dataset.index_row import index_rows
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.dataset.writer import ShardWriter
from cavsync.train.data.index import mapped_file
from cavsync.train.data.index.checks import ShardError
from cavsync.train.data.index.choice import ClipChoice
from cavsync.train.data.index.mapped_file import index_file
from cavsync.train.data.index.mapped_index import ClipKeys, MappedIndex
from cavsync.train.data.store import ClipStore

NUM_CLIPS = 12
GAPS_S = {1: [(0.0, 0.2), (4.0, 4.3)], 7: [(9.68, 9.98)]}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three shards of up to five clips, two of which have gaps."""
    return Dataset.open(write_known_shards(tmp_path / "data", num_clips=NUM_CLIPS, audio_gaps_s=GAPS_S))


@pytest.mark.parametrize("max_rows", [1, 6, 65_536])
def test_the_mapped_rows_are_those_of_the_parquet_index(
    dataset: Dataset, max_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped_file, "MAX_ROWS", max_rows)
    table = dataset.index_table("train")
    index, rows = MappedIndex(index_file(dataset, "train")), index_rows(table)
    assert len(index) == len(rows) == NUM_CLIPS
    for clip, row in enumerate(rows):
        mapped = index[clip]
        assert (mapped.key, index.shards[mapped.number("shard")]) == (row.key, row.shard)
        assert row.clip is not None
        assert row.members is not None
        assert mapped.number("num_mel_rows") == row.clip.num_mel_rows
        for name in ("mel_offset", "mel_size", "json_offset", "json_size", "crc32"):
            assert mapped.number(name) == getattr(row.members, name)
        assert mapped.of_frames("frame_pts_s").tolist() == list(row.clip.frame_pts_s)
        for name in ("frame_offset", "frame_size"):
            assert mapped.of_frames(name).tolist() == list(getattr(row.members, name))
    assert list(index.texts("labels")) == [list(row.labels) for row in rows]
    assert index.frame_counts() == [16]


@pytest.mark.parametrize("max_rows", [1, 6, 65_536])
def test_chosen_clips_keep_their_rows(
    dataset: Dataset, max_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped_file, "MAX_ROWS", max_rows)
    whole = MappedIndex(index_file(dataset, "train"))
    is_kept = np.arange(NUM_CLIPS) % 3 > 0
    some = whole.only(is_kept)
    keys = [key for key, kept in zip(ClipKeys(whole), is_kept, strict=True) if kept]
    assert list(ClipKeys(some)) == [some[clip].key for clip in range(len(some))] == keys
    assert ClipKeys(some)[1:3] == keys[1:3]
    assert ClipKeys(some)[-1] == keys[-1]
    assert list(ClipKeys(some.only(np.arange(len(some)) == 2))) == [keys[2]]
    with pytest.raises(IndexError):
        some[len(some)]


def test_a_pickled_store_reads_the_same_clips(dataset: Dataset) -> None:
    store = ClipStore(dataset, "train", choice=ClipChoice(max_gap_s=0.3))
    content = pickle.dumps(store)
    again: ClipStore = pickle.loads(content)
    # The rows of the index stay where they are.
    assert len(content) < 3000
    assert list(again.keys) == list(store.keys)
    assert np.array_equal(again[9].mel(), store[9].mel())


def test_the_file_is_made_once_and_again_when_a_shard_has_changed(dataset: Dataset) -> None:
    def made() -> tuple[int, int]:
        found = index_file(dataset, "train").stat()
        return found.st_ino, found.st_mtime_ns

    first = made()
    assert made() == first
    done = dataset.paths.done("train-00001")
    os.utime(done, ns=(0, 0))
    second = made()
    assert second != first
    assert made() == second
    fewer = replace(dataset, summary=dataset.summary | {"shards": ["train-00000"]})
    assert len(MappedIndex(index_file(fewer, "train"))) == 5
    assert len(MappedIndex(index_file(dataset, "train"))) == NUM_CLIPS


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other format"])
def test_a_file_that_cannot_be_used_is_made_again(
    dataset: Dataset, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = index_file(dataset, "train")
    content = file.read_bytes()
    if damage == "other format":
        monkeypatch.setattr(mapped_file, "FORMAT", mapped_file.FORMAT + 1)
    else:
        damaged = {"empty": b"", "cut": content[: len(content) // 2], "text": b"no index"}
        file.write_bytes(damaged[damage])
    assert len(MappedIndex(index_file(dataset, "train"))) == NUM_CLIPS
    assert (file.read_bytes() == content) == (damage != "other format")


def test_the_file_lies_in_the_users_cache_where_the_dataset_takes_none(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The tests may run as root, who may write everywhere; no folder can be made where a file is.
    Path(str(dataset.paths.root), "mapped").write_text("")
    file = index_file(dataset, "train")
    assert file.is_relative_to(tmp_path / "cache" / "cavsync")
    assert index_file(dataset, "train") == file
    other = Dataset.open(write_known_shards(tmp_path / "other" / "data", num_clips=2))
    Path(str(other.paths.root), "mapped").write_text("")
    assert index_file(other, "train") != file
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "data" / "mapped"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "data" / "mapped"))
    with pytest.raises(DatasetError, match=r"none can be written: .*mapped.* Set XDG_CACHE_HOME to a folder"):
        index_file(dataset, "train")


def test_of_processes_that_need_it_at_once_one_makes_it(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    write = mapped_file._write

    def slow(*given: Any) -> None:
        calls.append(given)
        time.sleep(0.2)
        write(*given)

    monkeypatch.setattr(mapped_file, "_write", slow)
    # The lock belongs to an open file, so threads exclude each other as processes do.
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda _: index_file(dataset, "train"), range(4)))
    assert len(calls) == len(set(files)) == 1
    assert len(MappedIndex(files[0])) == NUM_CLIPS


def test_what_a_killed_process_left_is_removed(dataset: Dataset) -> None:
    folder = index_file(dataset, "train").parent
    (folder / ".train.arrow.0123.tmp").write_bytes(b"half")
    os.utime(dataset.paths.done("train-00001"), ns=(0, 0))
    index_file(dataset, "train")
    assert [file.name for file in folder.iterdir()] == ["train.arrow"]


def test_a_part_that_is_gone_or_damaged_is_named(dataset: Dataset) -> None:
    paths: DatasetPaths = dataset.paths
    paths.index("train-00002").write_bytes(b"no Parquet")
    with pytest.raises(Exception, match=r"index/train-00002\.parquet is no Parquet file, or a damaged one"):
        index_file(dataset, "train")
    paths.done("train-00001").unlink()
    with pytest.raises(ShardError, match=r"done/train-00001\.json is gone.* it makes that shard anew"):
        index_file(dataset, "train")
    assert not list(Path(str(paths.root), "mapped").iterdir())


def test_a_role_without_a_usable_clip_is_reported(dataset: Dataset) -> None:
    row = replace(prepared_row("clip"), state=ClipState.MISSING, reason="not found", clip=None)
    with ShardWriter(dataset.paths, "train-00003") as writer:
        writer.add_failed(row)
        writer.finish()
    failed = replace(dataset, summary=dataset.summary | {"shards": ["train-00003"]})
    with pytest.raises(DatasetError, match="has no usable clip in split 'train'; its clips ended as"):
        index_file(failed, "train")
