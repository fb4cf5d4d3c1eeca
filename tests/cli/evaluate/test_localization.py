"""Proves `cavsync eval localization`: the published rules on hand-made maps, the model-free rows of VGG-SS,
annotations with issues, non-sounding rows, and the command on a small folder."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from support.command_line import output_text, run
from support.known_shards import micro_model
from support.pages import sound_page

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.segmentation_set import write_wav
from cavsync.pipeline.synthetic.world import make_world
from cavsync.train.data.config import DataConfig
from cavsync.train.evaluation.heatmaps.overlap import area_under_success, ciou
from cavsync.train.evaluation.localization.boxes import BoxSet
from cavsync.train.evaluation.localization.metrics import (
    adaptive,
    confidence,
    detect,
    localize,
    top,
    upper_half,
)
from cavsync.train.evaluation.localization.protocol import CEILING, DISC, ONES, reference_rows

HALF_BOX = [[0.0, 0.5, 1.0, 1.0]]  # the lower half


def localization(*options: object) -> Result:
    return run("eval", "localization", *options)


# The published rules


def test_half_of_the_pixels_are_predicted_one_less_when_strict() -> None:
    ramp, lower = np.arange(16.0).reshape(4, 4), np.repeat([0.0, 0.0, 1.0, 1.0], 4).reshape(4, 4)
    assert upper_half(ramp, strict=False).sum() == 8
    assert upper_half(ramp, strict=True).sum() == 7
    assert ciou(upper_half(ramp, strict=False), lower) == 1
    assert ciou(upper_half(ramp, strict=True), lower) == 7 / 8
    # Everything but the coldest pixel: eight hits and seven misses.
    assert ciou(ramp >= 1, lower) == pytest.approx(8 / 15)


def test_a_prediction_outside_costs_and_a_half_agreed_pixel_counts_half() -> None:
    truth = np.array([[1.0, 0.5, 0.0, 0.0]])
    assert ciou(np.array([[True, True, True, False]]), truth) == pytest.approx(1.5 / 2.5)
    assert ciou(np.array([[False, True, False, False]]), truth) == pytest.approx(0.5 / 1.5)
    assert ciou(np.ones((1, 4), bool), np.zeros((1, 4))) == 0


def test_the_area_under_the_success_curve_of_the_worked_example() -> None:
    assert area_under_success(np.array([0.2, 0.5, 0.8])) == pytest.approx(0.525)


def test_the_adaptive_rule_predicts_as_much_as_the_boxes_cover() -> None:
    truth = np.zeros((4, 4))
    truth[0, :2] = 1
    scores = np.arange(16.0, 0.0, -1).reshape(4, 4)
    assert adaptive(scores, truth) == 1
    assert ciou(upper_half(scores, strict=False), truth) < 0.3
    assert top(np.zeros((2, 3)), 2).tolist() == [[True, True, False], [False, False, False]]


def test_every_audio_of_an_image_must_succeed() -> None:
    result = localize(np.array([0.9, 0.4, 0.7]), ["a", "a", "b"])
    assert result.ciou.value == pytest.approx(200 / 3)
    assert result.every_source.value == 50


def test_confidence_is_the_mean_of_the_highest_quarter() -> None:
    assert confidence(np.arange(8.0).reshape(2, 4)) == 6.5


def test_detection_by_hand() -> None:
    # By confidence: right, non-sounding, wrong position, right, and nothing below.
    confidences = np.array([0.9, 0.8, 0.7, 0.6])
    cious, sounding = np.array([0.5, 0.9, 0.4, 0.6]), np.array([True, False, True, True])
    result = detect(confidences, cious, sounding)
    # right 1 1 1 2, wrong 0 1 2 2, missed 2 2 1 0
    precision, recall = [1, 1 / 2, 1 / 3, 2 / 4], [1 / 3, 1 / 3, 1 / 2, 2 / 2]
    envelope = [1, 1 / 2, 1 / 2, 1 / 2]
    steps = np.diff([0.0, *recall])
    assert result.ap == pytest.approx(100 * float((steps * envelope).sum()))
    assert result.max_f1 == pytest.approx(
        100 * max(2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True))
    )


def test_equal_confidences_fall_together() -> None:
    sounding = np.array([True, False, False, False])
    result = detect(np.ones(4), np.array([0.9, 0, 0, 0]), sounding)
    assert result.ap == pytest.approx(25)
    assert detect(np.ones(4)[::-1], np.array([0, 0, 0, 0.9]), sounding[::-1]).ap == pytest.approx(25)


# Annotations


def write_vggss(folder: Path, items: list[dict[str, object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vggss.json").write_text(json.dumps(items))
    return folder


def test_dirty_boxes_are_clipped_counted_and_never_hit(tmp_path: Path) -> None:
    items = [
        {"file": "a", "class": "dog", "bbox": [[-2.88e16, 0.5, 0.5, 1.0], [0.25, 0.5, 0.75, 1.0]]},
        {"file": "b", "class": "cat", "bbox": [[0.3, 0.3, 0.3, 0.9]]},
    ]
    data = BoxSet.open(write_vggss(tmp_path, items))
    first, second = data.rows
    truth = data.truth(first)
    assert truth.shape == (224, 224)
    assert truth.sum() == 112 * 168  # the union of both boxes, the first moved to the edge
    assert set(np.unique(truth)) == {0, 1}
    assert not data.truth(second).any()
    assert list(data.annotation_issues().values()) == [1, 1, 1]
    assert reference_rows(list(data.rows), data, strict=False)[CEILING].published.ciou.value == 50


def test_flickr_counts_a_pixel_half_for_each_annotator(tmp_path: Path) -> None:
    box = "<bbox><name>{}</name><xmin>{}</xmin><ymin>0</ymin><xmax>256</xmax><ymax>256</ymax></bbox>"
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "123.xml").write_text(
        f"<annotation><a>{box.format(1, 0)}</a><a>{box.format(2, 128)}</a><a>{box.format(3, 192)}</a></annotation>"
    )
    data = BoxSet.open(tmp_path)
    (row,) = data.rows
    truth = data.truth(row)
    assert (data.benchmark, row.image) == ("flickr", "123")
    assert (truth[:, :112] == 0.5).all()
    assert (truth[:, 112:] == 1).all()


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<object><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>", "has boxes in <bndbox>"),
        ("<object><box>0 0 9 9</box></object>", "none of its 1 annotations has a box"),
        ("<bbox><xmin>0</xmin></bbox>", "is no annotation with <bbox> of four numbers"),
        ("<bbox><x>a</x><x>b</x><x>c</x><x>d</x></bbox>", "is no annotation with <bbox> of four numbers"),
    ],
)  # fmt: skip
def test_boxes_of_another_shape_are_refused_with_the_wanted_one(
    root: Path, tmp_path: Path, xml: str, message: str
) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "123.xml").write_text(f"<annotation>{xml}</annotation>")
    result = localization("--checkpoint", root / "runs/micro", "--data", tmp_path)
    assert result.exit_code == 1
    assert message in output_text(result)
    assert (
        "<bbox><xmin>X1</xmin><ymin>Y1</ymin><xmax>X2</xmax><ymax>Y2</ymax></bbox> is wanted"
        in output_text(result)
    )


@pytest.mark.real
@pytest.mark.skipif(not os.environ.get("CAVSYNC_REAL_DATA"), reason="CAVSYNC_REAL_DATA names no real lists")
def test_the_model_free_rows_of_vggss_are_the_known_ones(tmp_path: Path) -> None:
    lists = Path(os.environ["CAVSYNC_REAL_DATA"]) / "lists"
    shutil.copy(lists / "vggss.json", tmp_path)
    data = BoxSet.open(tmp_path, subset=lists / "vggss_test.csv")
    assert (len(data.rows), data.num_unlisted) == (5158, 0)
    assert list(data.annotation_issues().values())[1:] == [18, 2]
    found = reference_rows(list(data.rows), data, strict=False)
    rounded = {
        name: (round(found[name].published.ciou.value, 1), round(found[name].published.auc, 1))
        for name in (CEILING, DISC, ONES)
    }
    assert rounded == {CEILING: (50.5, 49.5), DISC: (34.0, 37.4), ONES: (21.9, 31.3)}
    assert found[CEILING].adaptive is not None
    assert found[CEILING].adaptive.ciou.value == pytest.approx(100 * 5156 / 5158)


# The command


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips as frames and audio files and one as a video, under raw/vggss, and a run with an untrained model."""
    folder = tmp_path_factory.mktemp("root")
    data = folder / "raw" / "vggss"
    for part in ("frames", "audio", "videos"):
        (data / part).mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(random.integers(0, 255, (48, 80, 3), np.uint8)).save(data / f"frames/{name}.jpg")
        write_wav(data / f"audio/{name}.wav", random.uniform(-0.5, 0.5, 16_000), 16_000)
    world = make_world(WorldConfig(num_train=0, num_test=1, side_px=32), folder / "world").root
    shutil.copy(next((world / "raw/vggsound/videos").iterdir()), data / "videos/d.mp4")
    write_vggss(data, [{"file": name, "class": "thing", "bbox": HALF_BOX} for name in "abcd"])
    run = folder / "runs" / "micro"
    torch.manual_seed(0)
    save_model(CavMaeSync(micro_model(image_size=64)), run / "model.safetensors")
    inputs = DataConfig(mel_mean=-5.0, mel_std=4.0, pad_value=-5.0)
    (run / "config.json").write_text(json.dumps({"data": asdict(inputs)}))
    return folder


def test_it_runs_as_it_stands_from_frames_and_from_videos(root: Path) -> None:
    result = localization("--root", root)
    assert result.exit_code == 0, result.output
    folder = root / "runs/micro/localization-vggss"
    report = json.loads((folder / "report.json").read_text())
    assert (report["counts"]["listed"], report["counts"]["scored"], report["config"]["benchmark"]) == (
        4,
        4,
        "vggss",
    )
    assert list(report["results"]["methods"]) == ["denseav", CEILING, DISC, ONES]
    assert (
        report["results"]["methods"][CEILING]["published"]["ciou"]["value"] == 100
    )  # the box is half of the image
    assert report["results"]["methods"][ONES]["published"]["mean_ciou"] == pytest.approx(50)
    assert report["results"]["methods"]["denseav"]["detection"] is None
    page = (folder / "report.html").read_text()
    for part in ("VGG-SS", "EZ-VSL repository", "data:image/jpeg"):
        assert part in page
    sound_page(folder / "report.html")


def test_non_sounding_rows_are_detected_among_sounding_ones(root: Path, tmp_path: Path) -> None:
    negatives = tmp_path / "plus_silent.csv"
    negatives.write_text("image,audio,kind\na,a,sounding\na,b,non-sounding\nb.jpg,d.wav,non-sounding\n")
    result = localization(
        *("--root", root, "--negatives", negatives, "--out", tmp_path, "--json"),
        *("--map", "masked-view", "--map", "denseav"),
    )
    report = json.loads(result.stdout)
    assert (report["counts"]["scored"], report["results"]["num_negatives"]) == (6, 2)
    for method in ("masked-view", "denseav"):
        found = report["results"]["methods"][method]["detection"]
        assert 0 <= found["ap"] <= 100
        assert 0 <= found["max_f1"] <= 100
        assert report["results"]["methods"][method]["published"]["ciou"]["value"] in (
            0,
            25,
            50,
            75,
            100,
        )  # of 4 sounding
    assert "SLAVC repository" in (tmp_path / "report.html").read_text()


def test_a_list_chooses_clips(root: Path, tmp_path: Path) -> None:
    (tmp_path / "audible.csv").write_text("a.mp4\nc\nabsent\n")
    result = localization("--root", root, "--list", tmp_path / "audible.csv", "--out", tmp_path, "--json")
    report = json.loads(result.stdout)
    assert (report["counts"]["listed"], report["results"]["num_ids_without_annotation"]) == (2, 1)


def test_images_with_several_audio_files_get_a_row_of_their_own(root: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(root / "raw/vggss", tmp_path / "data"))
    pair = [{"file": f"a{i}", "image": "a", "audio": i, "class": "x", "bbox": HALF_BOX} for i in "ab"]
    write_vggss(data, pair)
    result = localization("--root", root, "--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "denseav: IIoU" in output_text(result)


def test_squeezing_and_cropping_give_different_images_of_a_wide_frame(root: Path, tmp_path: Path) -> None:
    def table(geometry: str) -> object:
        result = localization("--root", root, "--geometry", geometry, "--out", tmp_path / geometry, "--json")
        report = json.loads(result.stdout)
        assert report["config"]["geometry"] == geometry
        return report["results"]["methods"]["denseav"]

    assert table("lvs") != table("ez-vsl")


def test_missing_files_are_counted_and_named(root: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(root / "raw/vggss", tmp_path / "data"))
    (data / "audio/b.wav").unlink()
    options = ["--root", root, "--data", data, "--out", tmp_path / "out"]
    refused = localization(*options)
    assert refused.exit_code == 1
    assert "only 3 of 4 rows scored; 1 missing, and --max-missing allows 5% to be left out" in output_text(
        refused
    )
    assert f"{data / 'audio/b.wav'} not there, nor a video in" in output_text(refused)
    assert localization(*options, "--max-missing", "0.25").exit_code == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [one["item"] for one in report["counts"]["unusable"]] == ["b"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, [], "holds neither vggss.json (VGG-SS) nor a folder Annotations (Flickr-SoundNet)"),
        ('[{"file": "a"}]', [], "is no list of {file, class, bbox"),
        ("[]", ["--list", "absent.csv"], "absent.csv is not there"),
        ("[]", ["--negatives", "empty.csv"], 'has no row "IMAGE,AUDIO,non-sounding"'),
        ("[]", [], "holds no annotation"),
        (
            '[{"file": "a", "class": "dog", "bbox": []}]',
            [],
            'none of its 1 annotations has a box. {"file": "ID"',
        ),
    ],
)
def test_data_that_cannot_be_read_is_refused_in_one_message(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("a,b,sounding\n")
    if content is not None:
        (tmp_path / "vggss.json").write_text(content)
    result = localization("--checkpoint", root / "runs/micro", "--data", tmp_path, *options)
    assert result.exit_code == 1
    assert message in output_text(result)
    assert "Traceback" not in result.output
