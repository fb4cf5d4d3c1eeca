"""Proves that `cavsync data validate` names all damage with its shard, and that `--fix` and a rerun give the same bytes."""

import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.command_line import output_text
from support.prepared import (
    data,
    flip,
    index_rows,
    prepare_vggsound,
    rewrite_index,
    rewrite_record,
    rewrite_tar,
    shard_of,
    write_videos,
)
from support.runs import content

from cavsync.pipeline.dataset.inventory import plan_inputs
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.inspection.leakage import find_overlaps
from cavsync.pipeline.inspection.shard_check import ShardCheck
from cavsync.pipeline.inspection.tar import TarDamageError, read_members
from cavsync.pipeline.storage.lock import run_lock
from cavsync.pipeline.storage.path import sha256

Rows = list[dict[str, Any]]
KEY = "a_00000000"


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    """A copy to damage; its videos are where they were, as the plan gives them."""
    shutil.copytree(prepared / "out", tmp_path / "out")
    (tmp_path / "videos").symlink_to(prepared / "videos")
    shutil.copy(prepared / "list.csv", tmp_path / "list.csv")
    return tmp_path


@pytest.fixture
def out(root: Path) -> Path:
    return root / "out"


def damaged(out: Path, *options: str) -> dict[str, list[str]]:
    result = data("validate", out, "--json", *options)
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["clean"] else 1)
    return dict(found["damaged"])


def test_a_whole_dataset_is_clean_and_its_leak_is_listed(out: Path) -> None:
    result = data("validate", out)
    assert result.exit_code == 0
    assert "3 shards are whole." in output_text(result)
    assert "1 videos have clips in training and in test splits: b" in output_text(result)
    assert damaged(out, "--quick") == {}


def test_a_flipped_bit_is_found_removed_and_made_again(root: Path, out: Path) -> None:
    before = content(out)
    shard, row = shard_of(out, KEY), index_rows(out)[KEY]
    flip(out / "shards" / f"{shard}.tar", row["mel_offset"] + 2000)
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.stem != shard}
    (problems,) = damaged(out).values()
    assert any("tar has another sha256" in problem for problem in problems)
    assert f"{KEY}: its bytes have changed (another crc32 than the index says)" in problems
    assert damaged(out, "--quick") == {}, "a bit of content is not checked by --quick"
    result = data("validate", out, "--fix")
    assert result.exit_code == 1
    assert f"{shard} is damaged" in result.output
    assert "The damaged shards were removed" in output_text(result)
    assert not list(out.rglob(f"{shard}.*"))
    assert f"done/{shard}.json is missing" in output_text(data("validate", out)), (
        "until prepare has run again"
    )
    prepare_vggsound(root)
    assert data("validate", out).exit_code == 0
    assert content(out) == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "whole shards stay untouched"


def to_done_record(out: Path, shard: str) -> None:
    (out / "done" / f"{shard}.json").write_text('{"half a rec')


def to_index(out: Path, shard: str) -> None:
    flip(out / "index" / f"{shard}.parquet", 100)


def to_header(out: Path, shard: str) -> None:
    flip(out / "shards" / f"{shard}.tar", index_rows(out)[KEY]["mel_offset"] - 512 + 3)


def cut_tar(out: Path, shard: str) -> None:
    tar = out / "shards" / f"{shard}.tar"
    tar.write_bytes(tar.read_bytes()[:-20_000])


def no_tar(out: Path, shard: str) -> None:
    (out / "shards" / f"{shard}.tar").unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (to_done_record, "its done-record, done/"),
        (to_index, "index has another sha256 than the done-record says"),
        (to_header, "tar: the header at byte"),
        (cut_tar, "bytes, the done-record says"),
        (no_tar, ".tar is missing"),
    ],
)
def test_damage_to_any_file_names_the_shard(
    damage: Callable[[Path, str], None], complaint: str, root: Path, out: Path
) -> None:
    before, shard = content(out), shard_of(out, KEY)
    damage(out, shard)
    found = damaged(out, "--fix")
    assert list(found) == [shard]
    assert any(complaint in problem for problem in found[shard]), found
    prepare_vggsound(root)
    assert data("validate", out).exit_code == 0
    assert content(out) == before


def of_key(rows: Rows) -> dict[str, Any]:
    return next(row for row in rows if row["key"] == KEY)


def disorder(rows: Rows) -> None:
    of_key(rows)["frame_pts_s"][1] = 0.0


def late_frame(rows: Rows) -> None:
    of_key(rows)["frame_pts_s"][-1] = 1.6


def early_frames(rows: Rows) -> None:
    of_key(rows)["frame_pts_s"][:2] = [-0.2, -0.1]


def lost_frame(rows: Rows) -> None:
    for name in ("frame_pts_s", "window_start", "window_stop", "frame_offset", "frame_size"):
        of_key(rows)[name].pop()


def shifted_window(rows: Rows) -> None:
    of_key(rows)["window_stop"][0] += 1


def shifted_bytes(rows: Rows) -> None:
    of_key(rows)["frame_offset"][2] += 1


def other_mel(rows: Rows) -> None:
    of_key(rows)["num_mel_rows"] -= 1


def other_duration(rows: Rows) -> None:
    of_key(rows)["duration_s"] += 0.25


def late_gap(rows: Rows) -> None:
    of_key(rows)["audio_gaps_s"] = [[0.2, 0.4], [1.4, 1.6]]


def early_gap(rows: Rows) -> None:
    of_key(rows)["frame_gaps_s"] = [[-0.1, 0.4]]


def gaps_out_of_order(rows: Rows) -> None:
    of_key(rows)["frame_gaps_s"] = [[0.4, 0.6], [0.5, 0.7]]


def half_a_gap(rows: Rows) -> None:
    of_key(rows)["audio_gaps_s"] = [[0.4]]


def other_orientation(rows: Rows) -> None:
    of_key(rows)["orientation"] = 9


def other_channel(rows: Rows) -> None:
    of_key(rows)["audio_channel"] = 1


def other_ratio(rows: Rows) -> None:
    of_key(rows)["sample_aspect_ratio"] = 0.0


def other_state(rows: Rows) -> None:
    of_key(rows)["state"] = "excellent"


def other_key(rows: Rows) -> None:
    of_key(rows)["key"] = "z_00000000"


def lost_row(rows: Rows) -> None:
    rows.remove(of_key(rows))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (disorder, f"{KEY}: its frames are not in order of time"),
        (late_frame, "1.600 s are outside its 1.5"),
        (early_frames, "frames at -0.200 to"),
        (lost_frame, f"{KEY}: 3 frames instead of 4"),
        (shifted_window, "do not fit a log-mel of"),
        (shifted_bytes, f"where the index says {KEY}.02.jpg"),
        (other_mel, f"{KEY}.mel.npy is float16"),
        (other_duration, f"{KEY}.json differs from the index in duration_s"),
        (late_gap, f"{KEY}: gaps in the audio at 0.200 to 1.600 s are outside its 1.5"),
        (early_gap, f"{KEY}: gaps in the frames at -0.100 to 0.400 s are outside"),
        (gaps_out_of_order, f"{KEY}: its gaps in the frames are no [start, stop)"),
        (half_a_gap, f"{KEY}: its gaps in the audio are no [start, stop)"),
        (other_orientation, f"{KEY}: orientation 9 is none of 1 to 8"),
        (other_channel, f"{KEY}: audio channel 1 is none of the file's 1"),
        (other_ratio, f"{KEY}: sample aspect ratio 0.0 is no ratio"),
        (other_state, f"{KEY}: 'excellent' is no state"),
        (other_key, "the index lists other clips than the plan"),
        (lost_row, "3 clips are planned, the index has 2 rows"),
    ],
)
def test_an_index_that_contradicts_the_shard_is_found(
    change: Callable[[Rows], None], complaint: str, out: Path
) -> None:
    shard = shard_of(out, KEY)
    rewrite_index(out, shard, change)
    found = damaged(out)
    assert list(found) == [shard]
    assert any(complaint in problem for problem in found[shard]), found


def test_a_tar_that_was_cut_between_two_members_is_found(out: Path) -> None:
    shard = shard_of(out, KEY)
    tar = out / "shards" / f"{shard}.tar"
    with tarfile.open(tar) as opened:
        last = opened.getmembers()[-1]

    def cut(content: bytearray) -> None:
        del content[last.offset_data + -(-last.size // 512) * 512 :]

    rewrite_tar(out, shard, cut)
    assert any("its end marker is missing" in problem for problem in damaged(out, "--quick")[shard])
    tar.write_bytes(tar.read_bytes()[:-100])
    with pytest.raises(TarDamageError, match=f"inside {last.name}"):
        list(read_members(tar))


def test_a_member_that_no_index_knows_is_found(out: Path) -> None:
    shard = shard_of(out, KEY)
    with tarfile.open(out / "shards" / f"{shard}.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("stranger.txt"))
    rewrite_tar(out, shard, lambda content: None)
    assert damaged(out)[shard] == ["only the tar has stranger.txt"]


def test_a_log_mel_that_is_not_finite_is_found(out: Path) -> None:
    shard, row = shard_of(out, KEY), index_rows(out)[KEY]
    first_value = row["mel_offset"] + 128  # after numpy's header

    def poison(content: bytearray) -> None:
        content[first_value : first_value + 2] = np.float16("nan").tobytes()

    def agree(rows: Rows) -> None:
        content = (out / "shards" / f"{shard}.tar").read_bytes()
        members = [*zip(row["frame_offset"], row["frame_size"], strict=True)]
        members += [(row[f"{name}_offset"], row[f"{name}_size"]) for name in ("json", "mel")]
        of_key(rows)["crc32"] = zlib.crc32(b"".join(content[offset:][:size] for offset, size in members))

    rewrite_tar(out, shard, poison)
    rewrite_index(out, shard, agree)
    assert damaged(out) == {shard: [f"{KEY}: {KEY}.mel.npy holds values that are not finite"]}


def test_frames_of_another_size_are_found(out: Path) -> None:
    config = {**plan_inputs(DatasetPaths(out)), "frame_size": 64}
    check = ShardCheck(
        paths=DatasetPaths(out), shard="test-00000", num_planned=3, keys_digest="", config=config
    )
    assert any("is 32 x 32 pixels, frame_size is 64" in problem for problem in check.run())


def test_a_summary_that_does_not_add_up_is_made_again(root: Path, out: Path) -> None:
    before = content(out)
    summary = json.loads((out / "dataset.json").read_text())
    summary["states"]["ok"] += 1
    (out / "dataset.json").write_text(json.dumps(summary))
    assert "dataset.json counts" in output_text(data("validate", out))
    data("validate", out, "--fix")
    prepare_vggsound(root)
    assert content(out) == before


def test_done_records_with_other_counts_are_damage(out: Path) -> None:
    shard = shard_of(out, KEY)
    rewrite_record(out, shard, states={"ok": 99})
    assert "the done-record says {'ok': 99}" in damaged(out)[shard][0]


def test_processes_find_the_same(out: Path) -> None:
    flip(out / "shards" / f"{shard_of(out, KEY)}.tar", 5000)
    assert damaged(out, "--workers", "2") == damaged(out)


def test_an_index_without_a_column_is_found(out: Path) -> None:
    paths, shard = DatasetPaths(out), shard_of(out, KEY)
    pq.write_table(pq.read_table(paths.index(shard)).drop_columns(["crc32"]), paths.index(shard))
    rewrite_record(out, shard, index_sha256=sha256(paths.index(shard)))
    assert damaged(out) == {shard: ["index lacks the columns crc32"]}


def test_a_key_that_is_twice_ok_is_named(out: Path) -> None:
    rewrite_index(out, "test-00000", lambda rows: [row.update(key=KEY) for row in rows])
    shards = ["test-00000", "train-00000", "train-00001"]
    assert find_overlaps(DatasetPaths(out), shards, {}).repeated_keys == [KEY]


def test_an_unfinished_dataset_is_no_damage(out: Path) -> None:
    (out / "dataset.json").unlink()
    (out / "done" / "train-00001.json").unlink()
    result = data("validate", out)
    assert result.exit_code == 0
    assert "2 shards are whole." in output_text(result)
    assert "1 shards are not made yet." in output_text(result)
    assert "is unfinished: 2 of 3 shards are finished" in output_text(result)


def test_tars_of_no_plan_are_named(out: Path) -> None:
    shutil.copy(out / "shards" / "test-00000.tar", out / "shards" / "test-00009.tar")
    assert "no plan has: test-00009.tar" in output_text(data("validate", out))


def test_nothing_is_removed_while_a_run_goes_on(out: Path) -> None:
    flip(out / "shards" / "test-00000.tar", 5000)
    with run_lock(out):
        result = data("validate", out, "--fix")
    assert result.exit_code == 1
    assert "is being prepared by process" in output_text(result)
    assert (out / "shards" / "test-00000.tar").is_file()


def test_retried_clips_are_no_repetition(tmp_path: Path) -> None:
    write_videos(tmp_path)
    out = prepare_vggsound(tmp_path)
    shutil.copy(tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "e.mp4")
    prepare_vggsound(tmp_path, "--retry-failed")
    assert "4 shards are whole." in output_text(data("validate", out))
    flip(out / "shards" / "train-00000r1.tar", 5000)
    assert list(damaged(out)) == ["train-00000r1"]
