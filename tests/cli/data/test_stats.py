"""Proves `cavsync data stats`: its counts are those of the clips that were made, its log-mel that of the stored arrays."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.command_line import output_text
from support.pages import sound_page
from support.prepared import data, index_rows, prepare_vggsound, shard_of, write_videos

from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.dataset.reader import Dataset, read_mel
from cavsync.pipeline.inspection.statistics import measure

PLOTS = {"states.png", "labels.png", "durations.png", "sources.png", "mel.png"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stats")
    write_videos(root)
    return prepare_vggsound(root)


@pytest.fixture(scope="module")
def report(out: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result = data("stats", out, "--out", tmp_path_factory.mktemp("page"), "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_every_clip_is_counted_by_state_label_and_source(report: dict[str, Any]) -> None:
    assert report["num_listed"] == 9
    assert report["states"] == {"ok": 6, "decode_error": 1, "missing": 1, "duplicate": 1}
    assert report["clips_per_label"] == {"dog": 4, "cat": 2, "cow": 0}
    assert report["facts"]["video codec"] == {"h264": 6}
    assert report["facts"]["frame size"] == {"160 x 120": 6}
    assert report["facts"]["sample rate"] == {"44,100 Hz": 6}
    assert report["ok_hours"] * 3600 == pytest.approx(4 * 1.5 + 2.5 + 1.5, abs=0.1)


def test_silent_and_still_clips_are_named(report: dict[str, Any]) -> None:
    found = {note: keys for note, keys in report["notes"].items() if keys}
    assert found == {"silent": ["c_00000000"], "still": ["d_00000000"]}


def test_the_log_mel_is_that_of_the_stored_arrays(out: Path, report: dict[str, Any]) -> None:
    mels = []
    for key, row in index_rows(out).items():
        content = (out / "shards" / f"{shard_of(out, key)}.tar").read_bytes()
        mels.append(read_mel(content[row["mel_offset"] :][: row["mel_size"]]).astype(float))
    every = np.concatenate(mels)
    assert report["mel"]["num_sampled"] == 6
    np.testing.assert_allclose(report["mel"]["band_mean"], every.mean(axis=0))
    np.testing.assert_allclose(report["mel"]["band_std"], every.std(axis=0))
    summary = Dataset.open(out).summary
    assert (report["mel"]["mean"], report["mel"]["std"]) == pytest.approx(
        (summary["mel_mean"], summary["mel_std"])
    )
    assert (report["mel"]["reference_mean"], report["mel"]["reference_std"]) == (-5.081, 4.4849)


def test_the_page_has_every_plot_and_loads_no_other_file(report: dict[str, Any]) -> None:
    page = Path(report["page"])
    text = page.read_text()
    sound_page(page)
    assert {path.name for path in page.parent.iterdir()} == PLOTS | {"stats.html"}
    assert text.count("data:image/png;base64,") == len(PLOTS)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "c_00000000" in text
    for name in PLOTS:
        with Image.open(io.BytesIO((page.parent / name).read_bytes())) as image:
            assert image.width > 1000


def test_the_command_prints_tables(out: Path, tmp_path: Path) -> None:
    result = data("stats", out, "--out", tmp_path / "page")
    words = output_text(result)
    for part in (
        "9 listed clips, all shards are finished",
        "dog (4), cat (2), cow (0)",
        "silent 1: c_00000000",
    ):
        assert part in words
    assert "published for VGGSound: -5.081 / 4.4849" in words


def test_a_sample_touches_many_shards(out: Path) -> None:
    measured = measure(Inventory.read(out), num_mel_clips=2, on_shard=lambda done, total: None)
    assert measured.mel.num_sampled == 2
    none = measure(Inventory.read(out), num_mel_clips=0, on_shard=lambda done, total: None)
    assert none.mel.num_sampled == 0
    assert none.mel.mean is not None


def test_statistics_of_an_unfinished_dataset_cover_its_finished_shards(out: Path, tmp_path: Path) -> None:
    part = Path(shutil.copytree(out, tmp_path / "out"))
    (part / "dataset.json").unlink()
    for shard in ("train-00000", "train-00001", "test-00000"):
        (part / "done" / f"{shard}.json").unlink()
        result = data("stats", part)
        assert result.exit_code == 0, result.output
    assert "is unfinished: 0 of 3 shards are finished" in output_text(result)
    assert (part / "stats" / "stats.html").is_file()


def test_retried_clips_count_once(tmp_path: Path) -> None:
    write_videos(tmp_path)
    prepare_vggsound(tmp_path)
    shutil.copy(tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "e.mp4")
    out = prepare_vggsound(tmp_path, "--retry-failed")
    report = json.loads(data("stats", out, "--json").stdout)
    assert report["clips_per_label"] == {"dog": 4, "cat": 2, "cow": 1}
    assert report["states"] == {"ok": 7, "missing": 1, "duplicate": 1}
