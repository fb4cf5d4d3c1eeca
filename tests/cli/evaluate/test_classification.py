"""Proves `cavsync eval classification` from the command: our classifiers and published ones, and its errors."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from support import command_line
from support.command_line import output_text
from support.known_shards import micro_model
from support.labelled_shards import CLASSES, NUM_TEST, micro_finetuning, pretrained
from support.pages import sound_page

from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import cavmae_finetuning
from cavsync.train.data.images import normalise_images
from cavsync.train.data.labelled.clips import LabelledClips, WholeClips
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.finetune.trainer import finetune

NUM_LISTED = NUM_TEST + 2  # the fixture lists one missing clip a shard


@pytest.fixture(scope="module")
def run(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model fine-tuned with a head that answers for each frame."""
    folder = tmp_path_factory.mktemp("root") / "runs" / "tuned"
    config = micro_finetuning(labelled, pretrained(folder.parents[1]), "head.kind=mlp")
    finetune(config, folder, device="cpu")
    return folder


def classify(*options: object) -> Result:
    return command_line.run("eval", "classification", *options)


def report(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def write_labels(path: Path, ids: Sequence[str]) -> Path:
    rows = [f'{number},{one},"{one}"' for number, one in enumerate(ids)]
    path.write_text("\n".join(["index,mid,display_name", *rows]))
    return path


def write_published(folder: Path, order: Sequence[int], run: Path) -> Path:
    """The run's classifier as upstream publishes one, its outputs in another order."""
    tensors = official_state_dict(load_model(run / "model.safetensors"))
    for name in ("mlp_head.1.weight", "mlp_head.1.bias"):
        tensors[name] = tensors[name][list(order)]
    path = folder / "audio_model.pth"
    torch.save({f"module.{name}": tensor for name, tensor in tensors.items()}, path)
    return path


def test_the_newest_classifier_is_scored_as_its_training_scored_it(run: Path, labelled: Path) -> None:
    (run.parent / "later").mkdir(exist_ok=True)
    (run.parent / "later" / "config.json").write_text('{"data": {}}')  # of a pretraining run
    result = classify("--root", run.parents[1])
    assert result.exit_code == 0, result.output
    content = json.loads((run / "classification-test" / "report.json").read_text())
    scores = json.loads((run / "scores.json").read_text())
    names = {
        "mAP": "mean_average_precision",
        "AUC": "auc",
        "top-1 of clips": "top1",
        "top-1 of classes": "top1_macro",
    }
    for name, stored in names.items():
        assert content["figures"][name]["value"] == pytest.approx(100 * scores[stored], abs=1e-4)
    assert (content["counts"]["scored"], content["counts"]["listed"]) == (NUM_TEST, NUM_LISTED)
    assert content["results"]["without_positives"] == ["never"]
    assert "4 of 6 clips scored; 2 missing" in output_text(result)
    assert "Not in the means, because no clip has them: never" in output_text(result)


def test_the_page_is_self_contained_and_has_every_part(run: Path, tmp_path: Path) -> None:
    assert classify("--checkpoint", run, "--out", tmp_path).exit_code == 0
    sound_page(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for title in (
        "What was answered",
        "Confusions",
        "By class",
        "Beside published figures",
        "Clips without a score",
    ):
        assert f">{title}</h2>" in page
    assert "computed here on other clips: not comparable" in page
    assert "No clip has these 1, which are in no mean: never." in page


def test_probabilities_of_all_frames_are_averaged(run: Path) -> None:
    model = load_model(run / "model.safetensors")
    clips = LabelledClips(SplitTask.of(LoadedCheckpoint.load(run), None, "test").data, model.config, "both")
    right = []
    for item in map(WholeClips(clips).__getitem__, range(NUM_TEST)):
        with torch.inference_mode():
            # Each frame as a video of its own, so that only the softmax and the mean are left to do.
            frames = [
                model(audio[None, None], normalise_images(image)[None, None]).softmax(-1)
                for audio, image in zip(item["audio"], item["image"], strict=True)
            ]
        answer = int(torch.cat(frames).mean(dim=0).argmax())
        right.append(bool(item["target"][answer]))
    content = report(classify("--checkpoint", run, "--json"))
    assert content["figures"]["top-1 of clips"]["value"] == 100 * np.mean(right)
    assert content["config"]["answers"] == "single-label"


def test_a_published_file_answers_in_the_order_of_its_label_list(
    run: Path, labelled: Path, tmp_path: Path
) -> None:
    ours = report(classify("--checkpoint", run, "--json"))
    order = [2, 0, 1]
    published = write_published(tmp_path, order, run)
    labels = write_labels(tmp_path / "labels.csv", [CLASSES[index] for index in order])
    # Published inputs are cut by frame number, and the run's by time.
    given = ("--data", labelled, "--set", "num_heads=2", "--set", "alignment=time")
    content = report(classify("--checkpoint", published, "--labels", labels, *given, "--json"))
    assert content["config"]["labels"] == ["never", "dark", "bright"]
    assert {one["name"]: one["average_precision"] for one in content["results"]["classes"]} == pytest.approx(
        {one["name"]: one["average_precision"] for one in ours["results"]["classes"]}
    )
    assert content["figures"]["top-1 of clips"] == ours["figures"]["top-1 of clips"]


def test_another_classs_name_is_not_guessed_from_its_index(run: Path, labelled: Path, tmp_path: Path) -> None:
    published = write_published(tmp_path, [0, 1, 2], run)
    options = ["--checkpoint", published, "--data", labelled, "--set", "num_heads=2"]
    refused(classify(*options), "has 3 classes and does not say which", "--labels FILE")
    four = write_labels(tmp_path / "four.csv", [*CLASSES, "more"])
    refused(classify(*options, "--labels", four), "four.csv has 4 classes, and", "has 3 outputs")
    other = write_labels(tmp_path / "other.csv", ["dark", "grey", "never"])
    refused(classify(*options, "--labels", other), "2 of 4 clips of", "does not have: bright")


@pytest.mark.parametrize("num_classes", [308, 310])
def test_copies_of_vggsounds_list_with_another_length_are_refused(
    labelled: Path, tmp_path: Path, num_classes: int
) -> None:
    torch.manual_seed(0)
    classifier = CavMaeClassifier(micro_model(), cavmae_finetuning(num_classes))
    torch.save(official_state_dict(classifier), tmp_path / "vgg.pth")
    labels = write_labels(tmp_path / "labels.csv", [f"vgg_{number}" for number in range(num_classes)])
    options = ["--checkpoint", tmp_path / "vgg.pth", "--data", labelled, "--set", "num_heads=2"]
    refused(
        classify(*options, "--labels", labels),
        f"has {num_classes} classes, and VGGSound's label list has 309",
        "class_labels_indices_vgg.csv",
    )


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_one_modality_alone_is_asked_for_by_name(
    run: Path, labelled: Path, tmp_path: Path, modality: str
) -> None:
    published = write_published(tmp_path, [0, 1, 2], run)
    labels = write_labels(tmp_path / "labels.csv", CLASSES)
    options = ["--checkpoint", published, "--data", labelled, "--labels", labels, "--set", "num_heads=2"]
    content = report(classify(*options, "--modality", modality, "--json"))
    assert content["config"]["classifier"]["modality"] == modality
    both = report(classify(*options, "--json"))
    assert content["results"]["classes"] != both["results"]["classes"]


def test_a_head_for_audio_and_image_side_by_side_needs_both(labelled: Path, tmp_path: Path) -> None:
    finetune(micro_finetuning(labelled, pretrained(tmp_path)), tmp_path / "run", device="cpu")
    result = classify("--checkpoint", tmp_path / "run", "--modality", "audio")
    refused(result, "its head was made for both", "cavsync train probe --modality audio")


def test_a_run_that_is_not_finished_knows_its_classes(run: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.json", "checkpoints/last.pt"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    content = report(classify("--checkpoint", tmp_path, "--json"))
    assert content["config"]["labels"] == list(CLASSES)
    assert content["checkpoint"]["path"] == str(tmp_path / "checkpoints" / "last.pt")


def test_vggsounder_scores_the_clips_that_it_lists(run: Path, tmp_path: Path) -> None:
    rows = [
        f"clip{clip:03d}_000000,{label},AV" for clip, label in ((2, "dark"), (2, "bright"), (8, "bright"))
    ]
    listed = tmp_path / "vggsounder.csv"
    listed.write_text("\n".join(["video_id,label,modality", *rows, "gone_000010,dark,A"]))
    options = ["--checkpoint", run, "--vggsounder", listed, "--out", tmp_path / "out"]
    content = report(classify(*options, "--json"))["results"]["vggsounder"]
    assert (content["num_listed"], content["num_clips"], content["missing"]) == (3, 2, ["gone_00010000"])
    assert content["subsets"].keys() == {"av", "a", "v", "all"}
    assert (content["subsets"]["av"]["num_labels"], content["subsets"]["av"]["answers"]["hits"]["3"]) == (
        3,
        1.0,
    )
    assert "VGGSounder: several labels a clip" in (tmp_path / "out" / "report.html").read_text()


def test_probabilities_are_those_of_the_task(run: Path) -> None:
    content = report(classify("--checkpoint", run, "--task", "multi-label", "--json"))
    assert content["config"]["answers"] == "multi-label"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            lambda run: ["--root", run],
            "holds no run that trained a classifier: train one with `cavsync train probe`",
        ),
        (
            lambda run: ["--checkpoint", run.parents[1] / "pretrained.safetensors", "--data", "x"],
            "names no class",
        ),
        (lambda run: ["--checkpoint", run, "--split", "nowhere"], "has no split 'nowhere'; it has: train"),
        (lambda run: ["--checkpoint", run, "--labels", run / "config.json"], "config.json"),
        (lambda run: ["--checkpoint", run, "--vggsounder", run / "none.csv"], "none.csv is no file"),
    ],
)
def test_wrong_usage_is_refused_in_one_message(
    run: Path, options: Callable[[Path], list[object]], message: str
) -> None:
    refused(classify(*options(run)), message)


def test_a_split_that_is_mostly_missing_is_not_scored_silently(run: Path) -> None:
    result = classify("--checkpoint", run, "--max-missing", "0.3")
    refused(
        result,
        "only 4 of 6 clips scored; 2 missing, and --max-missing allows",
        "accept it with --max-missing 0.3",
    )


def test_an_unknown_field_is_wrong_usage(run: Path) -> None:
    result = classify("--checkpoint", run, "--set", "num_head=2")
    assert result.exit_code == 2
    assert "did you mean 'num_heads'" in output_text(result)


def refused(result: Result, *messages: str) -> None:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    for message in messages:
        assert message in output_text(result)
