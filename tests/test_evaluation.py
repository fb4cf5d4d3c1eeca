"""Proves `cavsync eval retrieval` from the command: what is scored, what is written, and how it refuses."""

import json
from pathlib import Path

import pytest
import torch
from known_shards import micro_model, micro_run, raw_data, write_known_shards
from typer.testing import CliRunner, Result

from cavsync.cli.main import app
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoint import load_model, save_model
from cavsync.train.data import ClipAllPairs, normalise_images
from cavsync.train.evaluation.embeddings import embed_split
from cavsync.train.evaluation.retrieval import retrieve
from cavsync.train.evaluation.task import PUBLISHED_INPUTS, Task
from cavsync.train.loop import pretrain

NUM_CLIPS, NUM_LISTED = 12, 15  # the fixture lists one missing clip a shard


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("data"), num_clips=NUM_CLIPS)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "runs" / "micro"
    pretrain(micro_run(dataset), folder, device="cpu")
    return folder


def retrieval(*options: object) -> Result:
    return CliRunner().invoke(app, ["eval", "retrieval", *map(str, options)])


def test_the_report_holds_the_scores_of_the_run_on_its_own_dataset(run: Path, dataset: Path) -> None:
    result = retrieval("--root", run.parents[1], "--split", "train")
    assert result.exit_code == 0, result.output
    report = json.loads((run / "retrieval-train" / "report.json").read_text())
    assert (report["counts"]["scored"], report["counts"]["listed"]) == (NUM_CLIPS, NUM_LISTED)
    assert {one["state"] for one in report["counts"]["unusable"]} == {"missing"}
    assert report["results"]["num_pairs_per_clip"] == 16
    task = Task.of(run, None, "train")
    embedded = embed_split(load_model(run / "model.safetensors"), task.data, torch.device("cpu"))
    for name, stored in report["results"]["aggregations"].items():
        expected = retrieve(embedded.audio, embedded.image, name)
        assert stored["audio_to_video"]["recalls"][0]["percent"] == expected.audio_to_video.recalls[0].percent
        assert stored["video_to_audio"]["median_rank"] == expected.video_to_audio.median_rank
    assert "12 of 15 clips; 3 missing, diagonal-mean" in result.output
    page = (run / "retrieval-train" / "report.html").read_text()
    assert "Which video does this sound belong to?" in page
    assert 'src="http' not in page  # self-contained


def test_an_embedding_is_the_encoders_answer_to_that_frame_and_window(dataset: Path) -> None:
    model, data = CavMaeSync(micro_model()).eval(), raw_data(dataset)
    embedded = embed_split(model, data, torch.device("cpu"))
    item = ClipAllPairs(data, model.config)[7]
    with torch.inference_mode():
        # Alone, so that neither batching nor the sharing of equal windows can help.
        sound = model.encode_audio(item["audio"][5:6]).global_token[0]
        picture = model.encode_image(normalise_images(item["image"][5:6])).global_token[0]
    torch.testing.assert_close(embedded.audio[7, 5], sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(embedded.image[7, 5], picture, atol=1e-5, rtol=0)


def test_scoring_leaves_out_what_was_only_for_training(run: Path, dataset: Path) -> None:
    # The micro run augments; its scores must not.
    task = Task.of(run, None, "train")
    assert not task.data.image_augmentation
    assert not task.data.audio_noise
    assert task.data.pairing == "matched"


def test_a_published_file_gets_published_inputs_and_needs_a_dataset(dataset: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_model(CavMaeSync(micro_model()), weights)
    result = retrieval("--checkpoint", weights)
    assert result.exit_code == 1
    assert "belongs to no run folder" in flat(result)
    task = Task.of(weights, dataset, "train")
    assert (task.data.mel_mean, task.data.alignment) == (PUBLISHED_INPUTS.mel_mean, "upstream")
    assert task.data.path == str(dataset)
    assert retrieval("--checkpoint", weights, "--data", dataset, "--split", "train").exit_code == 0


def test_json_is_the_report_and_nothing_else(run: Path, tmp_path: Path) -> None:
    result = retrieval("--checkpoint", run, "--split", "train", "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "report.json").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "nowhere"], "nowhere is not there: give a run folder or a checkpoint file"),
        (["--root", "."], "holds no run: train one with `cavsync train pretrain`"),
        (["--checkpoint", "RUN"], "has no split 'test'; it has: train"),
        (["--checkpoint", "RUN", "--data", "."], "is no prepared dataset"),
        (["--checkpoint", "EMPTY"], "holds neither model.safetensors nor checkpoints/last.pt"),
        (["--checkpoint", "TEXT", "--data", "DATA", "--split", "train"], "text.pth"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_message(
    options: list[str],
    message: str,
    run: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pth").write_text("no weights")
    paths = {"RUN": run, "DATA": dataset, "EMPTY": tmp_path / "empty", "TEXT": tmp_path / "text.pth"}
    result = retrieval(*(paths.get(option, option) for option in options))
    assert result.exit_code == 1
    assert message in flat(result)
    assert "Traceback" not in result.output


def test_an_unknown_aggregation_is_wrong_usage() -> None:
    result = retrieval("--aggregation", "median")
    assert result.exit_code == 2
    assert "diagonal-mean" in result.output


def flat(result: Result) -> str:
    """The output without the frame and the line breaks that the terminal's width puts in."""
    return " ".join(result.output.replace("│", " ").split())
