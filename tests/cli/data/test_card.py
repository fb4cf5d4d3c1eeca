"""Proves `cavsync data card`: libraries that read dataset cards and Croissant load the dataset by them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image
from support.command_line import output_text
from support.prepared import data, index_rows, shard_of

from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.dataset.reader import read_mel
from cavsync.pipeline.storage.path import sha256

datasets = pytest.importorskip("datasets")
mlcroissant = pytest.importorskip("mlcroissant")


@pytest.fixture(scope="module")
def shared(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with its card."""
    out = Path(shutil.copytree(prepared / "out", tmp_path_factory.mktemp("shared") / "out"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cavsync.train.reporting.images.DPI", 40)
        result = data("card", out, "--num", "2")
    assert result.exit_code == 0, result.output
    assert "Licence and source are unknown here: look for 'TO BE FILLED IN'" in output_text(result)
    return out


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """datasets keeps nothing of other tests."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)


def test_the_card_counts_by_state_split_and_label(shared: Path) -> None:
    text = (shared / "README.md").read_text()
    assert "6 audio-visual clips, 0.00 hours, of 9 that were listed." in text
    lines = [line for line in text.splitlines() if line.startswith(("| split", "| train", "| test", "| all"))]
    names, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert names[:3] == ["split", "role", "ok"]
    counts = {row[0]: {state: int(n) for state, n in zip(names[2:], row[2:], strict=True)} for row in rows}
    assert counts == {
        "train": {"ok": 4, "decode_error": 1, "missing": 0, "duplicate": 1},
        "test": {"ok": 2, "decode_error": 0, "missing": 1, "duplicate": 0},
        "all": {"ok": 6, "decode_error": 1, "missing": 1, "duplicate": 1},
    }
    for line in ("| dog | 4 |", "| cat | 2 |", "| cow | 0 |", "| `num_frames` | `4` |"):
        assert line in text
    assert text.count("TO BE FILLED IN by the publisher of this dataset") == 2


def test_every_picture_of_the_card_is_there(shared: Path) -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (shared / "README.md").read_text())
    assert {Path(name).name for name in pictures} >= {"clips.png", "states.png", "labels.png", "mel.png"}
    for name in pictures:
        with Image.open(shared / name) as image:
            image.load()


def test_the_head_of_the_card_is_what_hubs_read(shared: Path) -> None:
    head = DatasetCard.load(shared / "README.md").data
    assert head.license is None
    assert (head.pretty_name, head.size_categories) == ("vggsound", ["n<1K"])
    assert [config["config_name"] for config in head.configs] == ["clips"]


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_loads_the_folder_by_its_card(streaming: bool, shared: Path) -> None:
    loaded = datasets.load_dataset(str(shared), streaming=streaming)
    assert set(loaded) == {"train", "test"}
    rows = {row["__key__"]: row for split in loaded.values() for row in split}
    stored = index_rows(shared)
    assert rows.keys() == stored.keys()
    for key, row in rows.items():
        tar = (shared / "shards" / f"{shard_of(shared, key)}.tar").read_bytes()
        mel = read_mel(tar[stored[key]["mel_offset"] :][: stored[key]["mel_size"]])
        np.testing.assert_array_equal(np.array(row["mel.npy"], np.float16), mel)
        assert row["03.jpg"].size == (32, 32)
        assert row["json"]["labels"] == stored[key]["labels"]
        assert (row["json"]["audio_gaps_s"] or []) == stored[key]["audio_gaps_s"]


# Of rdflib and pandas, through which mlcroissant reads JSON-LD and Parquet.
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated", "ignore:The inplace keyword")
def test_mlcroissant_accepts_the_description_and_loads_its_records(shared: Path) -> None:
    described = mlcroissant.Dataset(jsonld=shared / "croissant.json")
    assert not described.metadata.issues.errors
    records = list(described.records("clips"))
    assert len(records) == 9
    states = Inventory.read(shared).states()
    assert sum(record["clips/state"] == b"ok" for record in records) == states["ok"] == 6
    stored = index_rows(shared)
    (dog,) = (one for one in records if one["clips/key"] == b"d_00000000")
    assert (dog["clips/labels"], dog["clips/still"]) == ([b"dog"], True)
    assert dog["clips/duration_s"] == pytest.approx(stored["d_00000000"]["duration_s"])
    assert list(dog["clips/frame_pts_s"]) == pytest.approx(stored["d_00000000"]["frame_pts_s"])


def test_the_description_has_the_hash_of_every_shard(shared: Path) -> None:
    described = json.loads((shared / "croissant.json").read_text())
    shards = {
        one["contentUrl"]: one["sha256"]
        for one in described["distribution"]
        if one["@type"] == "cr:FileObject"
    }
    assert shards == {f"shards/{path.name}": sha256(path) for path in (shared / "shards").iterdir()}


def test_the_python_of_the_card_runs_in_the_folder(shared: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (shared / "README.md").read_text(), re.DOTALL)
    code = "\n".join(
        [*blocks, "print(frame.size, len(mel[0]), about['split'], len(list(clips)), len(rows), len(table))"]
    ).replace("FOLDER", str(shared))
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    printed = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.split("\n")[0] == "(32, 32) 128 train 6 6 9"


def test_licence_and_source_are_filled_in_where_they_are_given(shared: Path, tmp_path: Path) -> None:
    given = ("--license", "cc-by-4.0", "--source", "https://example.org/videos")
    result = data("card", shared, "--out", tmp_path, "--num", "1", "--mel-clips", "0", *given)
    assert result.exit_code == 0, result.output
    assert "FILLED IN" not in (tmp_path / "README.md").read_text() + result.output
    assert DatasetCard.load(tmp_path / "README.md").data.license == "cc-by-4.0"
    described = json.loads((tmp_path / "croissant.json").read_text())
    assert (described["license"], described["url"]) == ("cc-by-4.0", "https://example.org/videos")


def test_a_card_that_is_there_is_not_replaced(shared: Path, out: Path) -> None:
    (out / "README.md").write_text("edited")
    result = data("card", out)
    assert result.exit_code == 1
    assert "README.md is there already, and may have been edited" in output_text(result)
    assert (out / "README.md").read_text() == "edited"


def test_an_unfinished_dataset_has_no_card(out: Path) -> None:
    (out / "dataset.json").unlink()
    (out / "done" / "test-00000.json").unlink()
    result = data("card", out)
    assert result.exit_code == 1
    assert "is unfinished (2 of 3 shards are finished): repeat its prepare command" in output_text(result)
    assert not (out / "README.md").exists()
