"""Proves `cavsync data score` and what conditions do with its file: models that read clip and time make every score arithmetic."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from support.clock_models import ShardClock, load_instead
from support.command_line import output_text, run
from support.known_shards import micro_model, raw_data, write_known_shards
from support.prepared import rewrite_index
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.model.output import Encoding
from cavsync.pipeline.dataset.reader import Dataset

NUM_CLIPS = 22  # more would share colours, which name the clips
FOREIGN, LATE, LATE_S, SILENT = 4, 9, 1.2, 12


class FaultyClock(ShardClock):
    """Takes the audio of one clip for that of the clip farthest from it, and that of another to be late."""

    def __init__(self) -> None:
        super().__init__(knows_clips=True)

    def encode_audio(self, audio: Tensor) -> Encoding:
        heard = audio.clone()
        heard[:, :, 0] = torch.where(audio[:, :, 0] == FOREIGN, FOREIGN + NUM_CLIPS // 2, audio[:, :, 0])
        late = (audio[:, 0, 0] == LATE).float()
        heard[:, :, 1] -= late[:, None] * LATE_S * 100
        return super().encode_audio(heard)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_known_shards(tmp_path_factory.mktemp("data"), num_clips=NUM_CLIPS, clips_per_shard=11)

    def silence(rows: list[dict[str, Any]]) -> None:
        rows[SILENT % 11]["silent"] = True

    rewrite_index(root, "train-00001", silence)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    save_model(CavMaeSync(micro_model()), path)
    return path


@pytest.fixture(scope="module")
def scores(dataset: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scores") / "scores.parquet"
    with pytest.MonkeyPatch.context() as monkeypatch:
        load_instead(monkeypatch, FaultyClock(), raw_data(dataset))
        result = score(dataset, weights, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{NUM_CLIPS - 1} of {NUM_CLIPS + 2} clips scored; 2 missing, 1 silent" in output_text(result)
    return out


def score(dataset: Path, weights: Path, *options: object) -> Result:
    return run("data", "score", dataset, "--checkpoint", weights, "--step", "0.1", *options)


def subset(dataset: Path, out: Path, *options: object) -> Result:
    return run("data", "subset", dataset, "--out", out, *options)


def test_a_clip_with_its_own_audio_in_step_has_the_highest_scores(scores: Path) -> None:
    found = pd.read_parquet(scores).set_index("key")
    # The one whose audio the foreign clip has is not alone in having it.
    sound = found.drop(index=[_key(FOREIGN), _key(LATE), _key(FOREIGN + NUM_CLIPS // 2)])
    assert len(sound) == NUM_CLIPS - 4
    assert np.allclose(sound["similarity"], 1, atol=1e-3)
    for name in ("correspondence", "on_screen", "within_clip"):
        assert (sound[name] == 1).all(), name
    assert np.allclose(sound["delay_s"], 0, atol=0.01)


def test_foreign_audio_has_no_correspondence_and_late_audio_a_delay(scores: Path) -> None:
    found = pd.read_parquet(scores).set_index("key")
    assert found.loc[_key(FOREIGN), "correspondence"] < 0.2
    assert found.loc[_key(FOREIGN), "on_screen"] == 0
    assert found.loc[_key(LATE), "delay_s"] == pytest.approx(LATE_S, abs=0.05)
    assert found.loc[_key(LATE), "within_clip"] < 0.2


def test_a_condition_may_use_scores_and_clips_without_any_are_not_kept(
    dataset: Path, scores: Path, tmp_path: Path
) -> None:
    keep = "correspondence > 0.9 and abs(delay_s) < 0.5"
    result = subset(dataset, tmp_path / "clean", "--scores", scores, "--keep", keep)
    assert result.exit_code == 0, result.output
    clean = Dataset.open(tmp_path / "clean")
    left_out = {_key(FOREIGN), _key(LATE), _key(SILENT)}
    assert set(clean.index("all")["key"]) == {_key(clip) for clip in range(NUM_CLIPS)} - left_out
    assert clean.summary["history"]["scores"][0]["dataset"] == str(dataset)


def test_without_its_file_a_score_is_an_unknown_column(dataset: Path, tmp_path: Path) -> None:
    result = subset(dataset, tmp_path / "out", "--keep", "correspondence > 0.9")
    assert result.exit_code == 1
    assert '"correspondence" not found' in output_text(result)


def test_files_that_cannot_be_joined_are_refused(dataset: Path, scores: Path, tmp_path: Path) -> None:
    table = pq.read_table(scores)
    wrong = {
        "other": (
            table.set_column(0, "key", [[f"other{n}" for n in range(len(table))]]),
            "none of which is among",
        ),
        "twice": (table.slice(0, 2).set_column(0, "key", [["a", "a"]]), "2 rows and 1 different keys"),
        "keyless": (table.drop_columns(["key"]), "it must have a column key"),
        "clash": (table.rename_columns(["key", "silent", *table.column_names[2:]]), "a column 'silent'"),
    }
    for name, (content, message) in wrong.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(content, path)
        result = subset(dataset, tmp_path / "out", "--scores", path, "--keep", "true")
        assert result.exit_code == 1, name
        assert message in output_text(result)
    assert "no Parquet file" in output_text(subset(dataset, tmp_path / "out", "--scores", __file__))
    assert "is not there" in output_text(subset(dataset, tmp_path / "out", "--scores", tmp_path / "none"))
    assert not (tmp_path / "out").exists()


def test_scores_of_other_inputs_are_not_replaced(dataset: Path, weights: Path, scores: Path) -> None:
    result = score(dataset, weights, "--out", scores, "--references", "21")
    assert result.exit_code == 1
    assert "references was 256 and is now 21" in output_text(result)


def test_a_dataset_of_few_clips_is_refused(weights: Path, tmp_path: Path) -> None:
    few = write_known_shards(tmp_path / "few", num_clips=6)
    result = score(few, weights, "--out", tmp_path / "scores.parquet")
    assert result.exit_code == 1
    assert "more than 20 are needed" in output_text(result)


def test_the_summary_as_json_has_the_percentiles(
    dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_instead(monkeypatch, FaultyClock(), raw_data(dataset))
    result = score(dataset, weights, "--out", tmp_path / "scores.parquet", "--json")
    found = json.loads(result.stdout)
    assert found["percentiles"]["correspondence"]["50"] == 1
    assert found["coverage"]["scored"] == NUM_CLIPS - 1


def _key(clip: int) -> str:
    return f"clip{clip:03d}_00000000"
