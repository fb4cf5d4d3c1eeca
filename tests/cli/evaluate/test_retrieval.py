"""Proves `cavsync eval retrieval` from the command: what is scored, what is written, and its errors."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from support import command_line
from support.command_line import output_text
from support.known_shards import micro_model, micro_run, raw_data, write_known_shards
from support.labelled_shards import NUM_TEST, NUM_TRAIN
from support.pages import sound_page

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model, save_model
from cavsync.train.data.images import normalise_images
from cavsync.train.data.inputs import PUBLISHED_INPUTS
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.clips import embed_split
from cavsync.train.evaluation.retrieval.contamination import TrainingVideos, contamination, training_of
from cavsync.train.evaluation.retrieval.metrics import retrieve
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.pretrain.trainer import pretrain

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
    return command_line.run("eval", "retrieval", *options)


def test_the_report_holds_the_scores_of_the_run_on_its_own_dataset(run: Path, dataset: Path) -> None:
    result = retrieval("--root", run.parents[1], "--split", "train")
    assert result.exit_code == 0, result.output
    report = json.loads((run / "retrieval-train" / "report.json").read_text())
    assert (report["counts"]["scored"], report["counts"]["listed"]) == (NUM_CLIPS, NUM_LISTED)
    assert {one["state"] for one in report["counts"]["unusable"]} == {"missing"}
    assert report["results"]["num_pairs_per_clip"] == 16
    assert report["checkpoint"]["training"] == json.loads((run / "config.json").read_text())
    page = (run / "retrieval-train" / "report.html").read_text()
    assert page.partition("training started from")[2].partition("random weights of seed 0")[1]
    task = SplitTask.of(LoadedCheckpoint.load(run), None, "train")
    model = load_model(run / "model.safetensors")
    embedded = embed_split(model, ClipAllPairs(task.data, model.config), torch.device("cpu"))
    for name, stored in report["results"]["aggregations"].items():
        expected = retrieve(embedded.audio, embedded.image, name)
        assert stored["audio_to_video"]["recalls"]["1"]["value"] == expected.audio_to_video.recalls[1].value
        assert stored["video_to_audio"]["median"]["value"] == expected.video_to_audio.median.value
    assert "Retrieval, split train: 12 of 15 clips scored; 3 missing (diagonal-mean)" in output_text(result)
    page = (run / "retrieval-train" / "report.html").read_text()
    assert "Examples: audio → video" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)  # self-contained
    sound_page(run / "retrieval-train" / "report.html")
    assert page.count("data:audio/mpeg;base64,") > 0
    assert "Clips without a score" in page


def test_an_embedding_is_the_encoders_answer_to_that_frame_and_window(dataset: Path) -> None:
    model, data = CavMaeSync(micro_model()).eval(), raw_data(dataset)
    embedded = embed_split(model, ClipAllPairs(data, model.config), torch.device("cpu"))
    item = ClipAllPairs(data, model.config)[7]
    with torch.inference_mode():
        # Alone, so that neither batching nor the sharing of equal windows can help.
        audio = model.encode_audio(item["audio"][5:6]).global_token[0]
        image = model.encode_image(normalise_images(item["image"][5:6])).global_token[0]
    for stored, expected in ((embedded.audio[7, 5], audio), (embedded.image[7, 5], image)):
        unit = torch.nn.functional.normalize(expected, dim=0)
        torch.testing.assert_close(stored.float(), unit, atol=3e-4, rtol=0)  # half a step of float16 below 1


def test_scoring_does_not_augment(run: Path, dataset: Path) -> None:
    # The micro run augments; its scores must not.
    task = SplitTask.of(LoadedCheckpoint.load(run), None, "train")
    assert not task.data.image_augmentation
    assert not task.data.audio_noise
    assert task.data.pairing == "matched"


def test_a_published_file_gets_published_inputs_and_needs_a_dataset(dataset: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_model(CavMaeSync(micro_model()), weights)
    result = retrieval("--checkpoint", weights)
    assert result.exit_code == 1
    assert "belongs to no run folder" in output_text(result)
    task = SplitTask.of(LoadedCheckpoint.load(weights), dataset, "train")
    assert (task.data.mel_mean, task.data.alignment) == (PUBLISHED_INPUTS.mel_mean, "upstream")
    assert task.data.path == str(dataset)
    assert retrieval("--checkpoint", weights, "--data", dataset, "--split", "train").exit_code == 0


def test_the_report_states_the_precision_and_another_one_has_a_report_of_its_own(
    run: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    for precision in ("float32", "bfloat16"):
        result = retrieval("--checkpoint", copied, "--split", "train", "--precision", precision)
        assert result.exit_code == 0, result.output
    folders = [copied / "retrieval-train", copied / "retrieval-train-2"]
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    assert [one["inputs"]["precision"] for one in reports] == ["float32", "bfloat16"]
    out = tmp_path / "compare.html"
    result = command_line.run("eval", "compare", *folders, "--out", out, "--json")
    assert json.loads(result.stdout)["settings"] == {"precision": ["float32", "bfloat16"]}


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
def test_wrong_usage_is_refused_in_one_message(
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
    assert message in output_text(result)
    assert "Traceback" not in result.output


def test_a_gallery_is_scored_among_its_own_clips(run: Path, dataset: Path, tmp_path: Path) -> None:
    listed = [f"clip{number:03d}" for number in (1, 4, 5, 9)]
    (tmp_path / "four.json").write_text(json.dumps({"data": [{"video_id": one} for one in listed]}))
    options = ("--checkpoint", run, "--split", "train", "--gallery", tmp_path / "four.json")
    result = retrieval(*options)
    assert result.exit_code == 0, result.output
    report = json.loads((run / "retrieval-four" / "report.json").read_text())
    assert report["counts"] == {"listed": 4, "found": 4, "scored": 4, "unusable": []}
    task = SplitTask.of(LoadedCheckpoint.load(run), None, "train")
    model = task.checkpoint.model
    whole = embed_split(model, ClipAllPairs(task.data, model.config), torch.device("cpu"))
    indices = [whole.keys.index(f"{one}_00000000") for one in listed]
    expected = retrieve(whole.audio[indices], whole.image[indices], "diagonal-mean")
    figures = report["figures"]
    assert figures["audio → video R@1"]["value"] == expected.audio_to_video.recalls[1].value
    assert figures["audio → video R@1"]["chance"] == 25
    assert figures["video → audio median rank"]["value"] == expected.video_to_audio.median.value
    page = (run / "retrieval-four" / "report.html").read_text()
    assert "None of these compares with this run (another gallery)" in page


def test_a_gallery_that_is_mostly_missing_is_an_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("clip001\nclip002\nclip900\nabsent\nnothing\n")
    options = (
        "--checkpoint",
        run,
        "--split",
        "train",
        "--gallery",
        tmp_path / "list.txt",
        "--out",
        tmp_path / "out",
    )
    refused = retrieval(*options)
    assert refused.exit_code == 1
    output = output_text(refused)
    assert "only 2 of 5 clips scored; 1 missing, 2 not_in_dataset, and --max-missing allows 50%" in output
    assert "not found; no clip of" in output  # the reasons
    assert "is named absent" in output
    assert "accept it with --max-missing 0.6" in output
    assert not (tmp_path / "out").exists()
    assert retrieval(*options, "--max-missing", "0.6").exit_code == 0
    counts = json.loads((tmp_path / "out" / "report.json").read_text())["counts"]
    assert (counts["listed"], counts["found"], counts["scored"]) == (5, 2, 2)
    assert {one["item"]: one["state"] for one in counts["unusable"]} == {
        "clip900": "missing",
        "absent": "not_in_dataset",
        "nothing": "not_in_dataset",
    }


def test_one_clip_is_no_gallery(run: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("clip001\n")
    result = retrieval("--checkpoint", run, "--split", "train", "--gallery", tmp_path / "one.txt")
    assert result.exit_code == 1
    assert "1 clip can be scored, and retrieval chooses among two clips or more" in output_text(result)


def test_clips_that_were_trained_on_are_counted_apart(labelled_run: Path, tmp_path: Path) -> None:
    result = retrieval("--checkpoint", labelled_run, "--split", "all", "--out", tmp_path, "--json")
    report = json.loads(result.stdout)
    found = report["results"]["contamination"]
    assert (found["checked"], found["num_trained"], report["counts"]["scored"]) == (
        True,
        NUM_TRAIN,
        NUM_TRAIN + NUM_TEST,
    )
    without = found["without"]
    assert without["num_clean"] == NUM_TEST
    ranks = pd.read_parquet(tmp_path / "ranks.parquet").set_index("clip")[
        "diagonal-mean own_clip audio_to_video"
    ]
    for part, clips in (
        ("trained_queries", ranks[found["trained"]]),
        ("clean_queries", ranks.drop(found["trained"])),
    ):
        first = without[part]["audio_to_video"]["recalls"]["1"]
        assert first["value"] == pytest.approx(100 * (clips == 1).mean())
        assert first["chance"] == pytest.approx(100 / 12)
    assert without["clean_gallery"]["audio_to_video"]["recalls"]["1"]["chance"] == 25
    alone = json.loads(retrieval("--checkpoint", labelled_run, "--out", tmp_path / "test", "--json").stdout)
    own = alone["results"]["aggregations"]["diagonal-mean"]
    assert without["clean_gallery"]["video_to_audio"] == own["video_to_audio"]
    assert alone["results"]["contamination"]["num_trained"] == 0
    page = (tmp_path / "report.html").read_text()
    assert "8 of the 12 clips come from videos that were trained on" in page
    assert "4 not trained on, among themselves" in page


def test_the_training_clips_of_a_model_can_be_named_or_stay_unknown(
    labelled: Path, labelled_run: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    save_model(load_model(labelled_run / "model.safetensors"), weights)
    options = ("--checkpoint", weights, "--data", labelled, "--split", "all", "--out", tmp_path / "named")
    result = retrieval(*options[:-1], tmp_path / "unknown")
    assert "Not checked: " in output_text(result)
    assert "Name the training dataset with --trained-on" in output_text(result)
    assert "8 of the 12 clips come from videos" in output_text(retrieval(*options, "--trained-on", labelled))
    refused = retrieval(*options[:-1], tmp_path / "refused", "--trained-on", tmp_path)
    assert refused.exit_code == 1
    assert "is no prepared dataset" in output_text(refused)


def test_a_run_that_started_from_another_was_trained_on_its_clips_too(
    labelled: Path, labelled_run: Path, dataset: Path, tmp_path: Path
) -> None:
    config = micro_run(dataset, initial_weights=str(labelled_run))
    later = tmp_path / "runs" / "later"
    later.mkdir(parents=True)
    (later / "config.json").write_text(
        json.dumps({"data": asdict(config.data), "initial_weights": config.initial_weights})
    )
    training = training_of(later / "model.safetensors")
    assert training.datasets == (str(dataset), str(labelled))
    assert training.unknown == ""
    published = tmp_path / "published.pth"
    (later / "config.json").write_text(
        json.dumps({"data": asdict(config.data), "initial_weights": str(published)})
    )
    training = training_of(later / "model.safetensors")
    assert training.datasets == (str(dataset),)
    assert training.unknown == f"{published} says nothing about its training"


def test_a_clip_of_the_same_video_at_another_time_counts_as_trained_on() -> None:
    training = TrainingVideos(("data",), frozenset({"abcdefghijk", "a_b"}), "")
    names = [
        "abcdefghijk_00030000",
        "abcdefghijk_000010",
        "abcdefghijk",
        "abcdefghijk_000030_00000000",
        "a_b_00000000",
    ]
    assert contamination([*names, "other_00000000", "a_00000000"], training).trained == tuple(names)


def test_any_clip_of_the_class_counts_beside_the_own_one(labelled_run: Path, tmp_path: Path) -> None:
    report = json.loads(retrieval("--checkpoint", labelled_run, "--out", tmp_path, "--json").stdout)
    figures = report["figures"]
    # Two of the four test clips are dark, two are bright.
    assert figures["audio → video same class R@1"]["chance"] == 50
    assert figures["audio → video R@1"]["chance"] == 25
    assert figures["audio → video same class R@1"]["value"] >= figures["audio → video R@1"]["value"]
    assert "same class" in (tmp_path / "report.html").read_text()


def test_saved_embeddings_score_as_the_checkpoint_does(
    labelled: Path, labelled_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "test.parquet"
    first = retrieval("--checkpoint", labelled_run, "--out", tmp_path / "a", "--save-embeddings", file)
    assert first.exit_code == 0, first.output
    again = retrieval("--embeddings", file)
    assert again.exit_code == 0, again.output
    one, two = (
        json.loads((folder / "report.json").read_text())
        for folder in (tmp_path / "a", tmp_path / "retrieval-test")
    )
    assert one["figures"] == two["figures"]
    assert one["items_sha256"] == two["items_sha256"]
    assert two["checkpoint"] is None
    assert two["results"]["about_embeddings"]["checkpoint"]["sha256"] == one["checkpoint"]["sha256"]
    assert two["results"]["contamination"]["checked"]  # the file names a checkpoint that is still there
    assert (
        "name the dataset with --data to see them here"
        in (tmp_path / "retrieval-test/report.html").read_text()
    )
    with_data = retrieval("--embeddings", file, "--data", labelled, "--out", tmp_path / "c")
    assert with_data.exit_code == 0, with_data.output
    assert "Examples: audio → video" in (tmp_path / "c/report.html").read_text()


def test_somebodys_embeddings_are_scored_under_the_names_they_use(labelled: Path, tmp_path: Path) -> None:
    names = [f"clip{number:03d}" for number in range(12)]
    vectors = np.eye(12).tolist()
    table = pd.DataFrame({"clip": names, "pair": 0, "audio": vectors, "image": vectors[1:] + vectors[:1]})
    table.to_parquet(tmp_path / "theirs.parquet")
    (tmp_path / "list.csv").write_text("clip003\nclip004\nclip099\n")
    result = retrieval(
        "--embeddings", tmp_path / "theirs.parquet", "--data", labelled, "--gallery", tmp_path / "list.csv"
    )
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "retrieval-list" / "report.json").read_text())
    assert report["counts"]["scored"] == 2
    # Audio embedding 4 is image embedding 3; nothing else is like anything, so all is a tie or worse.
    assert report["figures"]["audio → video R@1"]["value"] == 0
    assert report["figures"]["audio → video same class R@1"]["chance"] == 100  # the labels of --data
    table["image"] = np.eye(12).tolist()
    table.at[3, "image"] = [np.nan] * 12
    table.to_parquet(tmp_path / "broken.parquet")
    broken = retrieval("--embeddings", tmp_path / "broken.parquet")
    assert broken.exit_code == 1
    assert "row 3: the image embedding of pair 0 of clip003 holds NaN or infinity" in output_text(broken)
    other = table.assign(clip=[f"x{number}" for number in range(12)], image=vectors)
    other.to_parquet(tmp_path / "other.parquet")
    foreign = retrieval("--embeddings", tmp_path / "other.parquet", "--data", labelled)
    assert foreign.exit_code == 1
    assert "holds no clip of" in output_text(foreign)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--embeddings", "x.parquet", "--checkpoint", "run"],
            "--checkpoint and --embeddings exclude each other",
        ),
        (
            ["--embeddings", "x.parquet", "--save-embeddings", "y"],
            "--save-embeddings and --embeddings exclude",
        ),
        (["--max-missing", "2"], "less than or equal to 1"),
    ],
)
def test_contradicting_options_are_wrong_usage(options: list[str], message: str) -> None:
    result = retrieval(*options)
    assert result.exit_code == 2
    assert message in output_text(result)


def test_an_unknown_aggregation_is_wrong_usage() -> None:
    result = retrieval("--aggregation", "median")
    assert result.exit_code == 2
    assert "diagonal-mean" in result.output
