"""Proves that every listed clip is in exactly one shard, with the video that its name gives."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.lists.clip_list import ListedClip
from cavsync.pipeline.lists.videos import SourceError, VideoTree, scan
from cavsync.pipeline.plan.plan import Plan, make_plan

EMPTY = VideoTree(Path("/videos"), pa.array([], pa.string()))


def clip(clip_id: str, start_s: float = 30.0, split: str = "train") -> ListedClip:
    return ListedClip(clip_id, split, start_s, start_s + 10.0, ("a",), f"list.csv:{clip_id}")


def planned(
    clips: Sequence[ListedClip], *, tree: VideoTree = EMPTY, shard_size: int = 3, seed: int = 0
) -> Plan:
    return Plan(make_plan(clips, tree, "whole", shard_size, seed), {"seed": seed})


def shard_of(plan: Plan) -> dict[str, str]:
    return {row["key"]: row["shard"] for row in plan.table.to_pylist()}


CLIPS = [clip(f"id{n}") for n in range(8)] + [clip("test1", split="test"), clip("test2", split="test")]


def test_every_clip_is_in_one_shard_of_its_split() -> None:
    plan = planned(CLIPS)
    assert {name: span.stop - span.start for name, span in plan.shards().items()} == {
        "test-00000": 2,
        "train-00000": 3,
        "train-00001": 3,
        "train-00002": 2,
    }
    for name, span in plan.shards().items():
        assert {row.shard for row in plan.rows(span)} == {name}
    assert sorted(shard_of(plan)) == sorted(f"{one.clip_id}_00030000" for one in CLIPS)


def test_shards_depend_on_keys_and_seed_not_on_the_order_of_the_list() -> None:
    assert shard_of(planned(CLIPS[::-1])) == shard_of(planned(CLIPS))
    assert shard_of(planned(CLIPS, seed=1)) != shard_of(planned(CLIPS))


def test_the_second_listing_of_a_clip_is_a_duplicate() -> None:
    plan = planned([clip("a"), clip("b"), clip("a", split="test"), clip("a", start_s=40.0)])
    rows = {(row["key"], row["split"]): row["duplicate"] for row in plan.table.to_pylist()}
    assert rows == {
        ("a_00030000", "train"): False,
        ("a_00030000", "test"): True,
        ("a_00040000", "train"): False,
        ("b_00030000", "train"): False,
    }


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = planned(CLIPS)
    plan.write(tmp_path / "plan.parquet")
    assert Plan.read(tmp_path / "plan.parquet") == plan


@pytest.mark.parametrize(
    ("file", "layout", "start_s"),
    [
        ("-a_b.mp4", "whole", 30.5),
        ("-a_b.mp4", "cut", 0.0),
        ("deep/er/-a_b_000030.webm", "whole", 0.0),
        ("-a_b_30.500.MKV", "whole", 0.0),
        ("-a_b_30500_40500.mov", "whole", 0.0),
    ],
)
def test_a_video_is_found_by_its_name(file: str, layout: VideoLayout, start_s: float, tmp_path: Path) -> None:
    for name in (file, "other.mp4", "-a_b_000031.mp4", "-a_b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    table = make_plan([clip("-a_b", 30.5), clip("absent")], scan(tmp_path), layout, 512, 0)
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    assert rows["-a_b"]["source"] == str(tmp_path.resolve() / file)
    assert rows["-a_b"]["source_start_s"] == start_s
    assert rows["absent"]["source"] is rows["absent"]["source_start_s"] is None


def test_a_cut_clip_wins_over_the_whole_upload(tmp_path: Path) -> None:
    for name in ("abc.mp4", "abc_000030.mp4"):
        (tmp_path / name).touch()
    (row,) = make_plan([clip("abc")], scan(tmp_path), "whole", 512, 0).to_pylist()
    assert (Path(row["source"]).name, row["source_start_s"]) == ("abc_000030.mp4", 0.0)


def test_a_scan_counts_what_it_found(tmp_path: Path) -> None:
    for name in ("a.mp4", "b/c.webm", "b/d.mp4", "e.txt", ".hidden.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert scan(tmp_path).describe() == f"3 videos in {tmp_path.resolve()} (2 mp4, 1 webm)"


def test_a_file_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    Path(str(tmp_path) + "/\udcff.mp4").touch()
    with pytest.raises(SourceError, match="is not UTF-8; rename it"):
        scan(tmp_path)
