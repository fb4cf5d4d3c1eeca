"""Proves `cavsync eval segmentation` on a small world in ADE20K_Sound's layout: its figures against arithmetic and
independent counts, and its errors. That masked-view maps find the sounding thing needs minutes of training: the demo shows it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from PIL import Image
from support.command_line import output_text, run
from support.known_shards import micro_model
from support.pages import sound_page

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import SegmentRequest
from cavsync.pipeline.synthetic.classes import CLASS_IDS
from cavsync.pipeline.synthetic.config import WorldConfig, WorldError
from cavsync.pipeline.synthetic.segmentation_set import write_prompted, write_wav
from cavsync.pipeline.synthetic.world import make_world
from cavsync.train.choices import Scaling
from cavsync.train.data.config import DataConfig
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.evaluation.heatmaps.heatmap import MapConfig
from cavsync.train.evaluation.heatmaps.task import MapTask
from cavsync.train.evaluation.segmentation.dataset import PromptedRow, class_ids
from cavsync.train.evaluation.segmentation.metrics import segment
from cavsync.train.evaluation.segmentation.object_choice import choose, summarise
from cavsync.train.evaluation.segmentation.protocol import MappedRow, scaled_maps, score_segmentation

SIDE = 64


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = WorldConfig(num_train=0, num_test=3, side_px=SIDE, seed=5)
    return make_world(config, tmp_path_factory.mktemp("world")).root


@pytest.fixture(scope="module")
def root(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conventional layout: the data under raw/, a run with an untrained model under runs/."""
    folder = tmp_path_factory.mktemp("root")
    write_prompted(world, folder / "raw/ade20k_sound/ADE20KSoundPrompted", selection="all", rows_per_class=2)
    run = folder / "runs" / "micro"
    torch.manual_seed(0)
    model = CavMaeSync(micro_model(image_size=SIDE))
    torch.nn.init.uniform_(model.norm_v.weight, 0.2, 2.0)  # untrained norms give all patches one length
    save_model(model, run / "model.safetensors")
    inputs = DataConfig(mel_mean=-5.0, mel_std=4.0, pad_value=-5.0)
    (run / "config.json").write_text(json.dumps({"data": asdict(inputs)}))
    return folder


@pytest.fixture
def data(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root / "raw/ade20k_sound/ADE20KSoundPrompted", tmp_path / "prompted"))


def segmentation(*options: object) -> Result:
    return run("eval", "segmentation", *options)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def listed(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "prompted_segmentation.csv")


# The figures


def test_the_protocols_worked_example() -> None:
    scores, truth = np.array([[0, 0.2, 0.4, 0.6, 0.8, 1]]), np.array([[0, 0, 0, 1, 0, 1]], bool)
    result = segment(["dog"], [scores], [truth])
    assert result.ap.value == pytest.approx(83.33, abs=5e-3)
    assert result.iou.value == pytest.approx(66.67, abs=5e-3)


def test_a_constant_map_gets_the_area_of_the_class() -> None:
    truth = np.zeros((2, 50), bool)
    truth[0, :13] = True
    result = segment(["dog", "dog"], [np.zeros((1, 50))] * 2, [truth[:1], truth[1:]])
    assert result.ap.value == pytest.approx(13)
    assert result.iou.value == pytest.approx(13)


def test_pixels_are_pooled_over_a_class_and_classes_averaged() -> None:
    # One row alone is ranked perfectly; pooled, the hot background of the other comes first.
    maps = [np.array([[0.3, 0.1]]), np.array([[1.0, 0.9]]), np.array([[0.0, 1.0]])]
    truths = [np.array([[True, False]]), np.array([[True, False]]), np.array([[False, True]])]
    result = segment(["dog", "dog", "car"], maps, truths)
    car, dog = result.classes
    assert (car.name, car.num_rows, car.ap.value, car.iou.value) == ("car", 1, 100, 100)
    assert dog.ap.value == pytest.approx(100 * (1 / 2 + 1 / 2 * 2 / 3))
    assert result.ap.value == pytest.approx((dog.ap.value + 100) / 2)
    assert dog.fixed_iou.value == pytest.approx(100 / 3)  # above 0.5: one right, one wrong, one missed
    assert (car.ap.low, car.ap.high) == (None, None)  # one row does not show how much rows vary


def test_a_class_without_a_pixel_is_named_and_left_out() -> None:
    truths = [np.array([[True, False]]), np.zeros((1, 2), bool)]
    result = segment(["dog", "cat"], [np.array([[1.0, 0.0]])] * 2, truths)
    assert result.undefined == ("cat",)
    assert result.ap.value == 100


def test_a_mask_is_resized_before_it_is_decoded() -> None:
    # Half class 401 = (10, 145), half 2880 = (110, 64): any blend would be a third class.
    mask = torch.zeros(50, 80, 3, dtype=torch.uint8)
    mask[:, :40], mask[:, 40:] = torch.tensor([10, 145, 1]), torch.tensor([110, 64, 2])
    ids = class_ids(mask, 20)
    assert ids.shape == (20, 20)
    assert (ids[:, :10] == 401).all()
    assert (ids[:, 10:] == 2880).all()


def test_the_prompted_object_must_beat_every_other_sounding_object() -> None:
    ids = np.zeros((10, 10), int)
    ids[:3], ids[5:7], ids[9, 9] = 1, 2, 0
    heat = np.where(ids == 2, 0.5, 0.0)
    heat[0, 0] = 1.0  # the hottest pixel lies on object 1, the hottest mean on object 2
    sounding = {1, 2}
    right, wrong = choose(heat, ids, 2, sounding), choose(heat, ids, 1, sounding)
    assert right is not None
    assert wrong is not None
    assert (right.first, right.pointed, right.num_objects, right.area) == (True, False, 2, 0.2)
    assert (wrong.first, wrong.pointed) == (False, True)
    assert choose(np.zeros((10, 10)), ids, 2, sounding).first is False  # type: ignore[union-attr]  # a tie is a miss
    assert choose(heat, np.where(ids == 1, 0, ids), 2, sounding) is None  # alone: nothing to choose
    summary = summarise([right, wrong, None])
    assert summary is not None
    assert (summary.num_rows, summary.first.value, summary.first.chance) == (2, 50, 50)


def test_mute_objects_do_not_lower_the_chance_of_the_prompted_one() -> None:
    """Two objects that sound and a mute one: a map of what sounds, whatever the audio, is right in half of the cases."""
    ids = np.repeat([[1], [2], [255]], 9, axis=1)
    mute_is_hottest = np.array([[0.5], [0.2], [1.0]]).repeat(9, axis=1)
    summary = summarise([choose(mute_is_hottest, ids, prompted, {1, 2}) for prompted in (1, 2)])
    assert summary is not None
    assert (summary.first.value, summary.first.chance) == (50, 50)
    assert choose(mute_is_hottest, np.where(ids == 2, 255, ids), 1, {1, 2}) is None


# The small world as data


def test_the_worlds_set_shows_the_prompted_class_and_plays_it_alone(root: Path) -> None:
    data = root / "raw/ade20k_sound/ADE20KSoundPrompted"
    table = listed(data)
    assert table.groupby("ade_class").size().max() == 2
    with DecoderProcess() as decoder:
        for row in table.itertuples():
            mask_path = data / "annotations" / row.image_location.replace(".jpg", "_seg.png")
            mask = torch.from_numpy(pixels(mask_path))
            assert pixels(data / "frames" / row.image_location).shape == (SIDE, SIDE, 3)
            assert CLASS_IDS[row.ade_class] == row.ade_class_id
            assert (class_ids(mask, SIDE) == row.ade_class_id).mean() > 0.004
            prompt = decoder.read(SegmentRequest(data / "audio" / row.vggsound_file, 0.0, 20.0))
            assert len(prompt.waveform) == 160_000


def test_images_of_several_things_show_several_things(world: Path, tmp_path: Path) -> None:
    assert write_prompted(world, tmp_path, rows_per_class=1) > 0
    for path in (tmp_path / "annotations").iterdir():
        ids = class_ids(torch.from_numpy(pixels(path)), SIDE)
        assert len(set(np.unique(ids)) - {0, 255}) >= 2


def test_equal_arguments_write_equal_sets(world: Path, root: Path, tmp_path: Path) -> None:
    write_prompted(world, tmp_path, selection="all", rows_per_class=2)
    first = root / "raw/ade20k_sound/ADE20KSoundPrompted"
    files = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert files
    assert all((first / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


def test_a_world_without_masks_cannot_ask(tmp_path: Path) -> None:
    make_world(WorldConfig(num_train=1, num_test=0, side_px=32), tmp_path / "world")
    with pytest.raises(WorldError, match="holds no masks"):
        write_prompted(tmp_path / "world", tmp_path / "out")


# The command


def test_it_runs_as_it_stands_on_the_conventional_layout(root: Path) -> None:
    result = segmentation("--root", root)
    assert result.exit_code == 0, result.output
    folder = root / "runs/micro/segmentation-ade20k_sound"
    report = json.loads((folder / "report.json").read_text())
    table = listed(root / "raw/ade20k_sound/ADE20KSoundPrompted")
    assert report["counts"]["listed"] == report["counts"]["scored"] == len(table)
    assert list(report["results"]["methods"]) == [
        "denseav",
        "masked-view",
        "colour saliency",
        "centred disc",
        "constant map",
    ]
    assert f"{len(table)} of {len(table)} rows" in output_text(result)
    page = (folder / "report.html").read_text()
    for part in ("Example maps", "our own method", "DenseAV paper", "data:image/jpeg"):
        assert part in page
    sound_page(folder / "report.html")


def test_the_constant_row_is_the_area_of_the_masks(root: Path, tmp_path: Path) -> None:
    data = root / "raw/ade20k_sound/ADE20KSoundPrompted"
    result = segmentation("--root", root, "--data", data, "--out", tmp_path, "--map", "denseav", "--json")
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    areas: dict[str, list[float]] = {}
    for row in listed(data).itertuples():
        green = pixels(data / "annotations" / row.image_location.replace(".jpg", "_seg.png"))[..., 1]
        areas.setdefault(row.ade_class, []).append(float((green == row.ade_class_id).mean()))
    expected = 100 * np.mean([np.mean(area) for area in areas.values()])
    constant = report["results"]["methods"]["constant map"]["segmentation"]
    assert constant["ap"]["value"] == pytest.approx(expected)
    assert constant["iou"]["value"] == pytest.approx(expected)
    assert "masked-view" not in report["results"]["methods"]


def test_other_scaling_and_audio_sides_give_other_maps(root: Path) -> None:
    def maps(scaling: Scaling = "global", **changes: str) -> np.ndarray:
        config = MapConfig(**changes)  # type: ignore[arg-type]
        task = MapTask.of(
            LoadedCheckpoint.load(root / "runs/micro"), ["denseav"], config, "mean", max_missing=0
        )
        rows = score_segmentation(task, root / "raw/ade20k_sound", scaling).rows
        return np.stack(scaled_maps(rows, "denseav", scaling))

    plain = maps()
    assert np.array_equal(maps(), plain)
    np.testing.assert_allclose(maps(audio_features="mean"), plain, atol=1e-4)
    for other in (maps(similarity="cosine"), maps(audio_features="global"), maps("per-image")):
        assert np.abs(other - plain).max() > 0.01


def test_scaling_takes_the_extremes_of_all_rows_or_of_each() -> None:
    rows = [
        MappedRow(PromptedRow("a", "dog", 1, "a"), np.zeros(0), np.zeros((2, 2)), {"denseav": cells})
        for cells in (torch.tensor([[0.0, 1.0], [2.0, 4.0]]), torch.full((2, 2), 2.0))
    ]
    first, flat_one = scaled_maps(rows, "denseav", "global")
    assert (first.tolist(), flat_one.tolist()) == ([[0, 0.25], [0.5, 1]], [[0.5, 0.5], [0.5, 0.5]])
    assert scaled_maps(rows, "denseav", "per-image")[1].tolist() == [[0, 0], [0, 0]]


def test_rows_that_cannot_be_scored_are_counted_and_named(root: Path, data: Path, tmp_path: Path) -> None:
    table = listed(data).sort_values("image_location")
    images, audio_files = table["image_location"].unique(), table["vggsound_file"].unique()[::-1]
    (data / "frames" / images[0]).unlink()
    (data / "frames" / images[1]).write_bytes(b"no image")
    write_wav(data / "audio" / audio_files[0], np.zeros(16_000), 16_000)
    (data / "audio" / audio_files[1]).write_bytes(b"no audio")
    states = {images[0]: "missing", images[1]: "broken_image"}
    by_audio = {audio_files[0]: "no_audio", audio_files[1]: "decode_error"}
    options = ["--root", root, "--data", data, "--out", tmp_path / "out", "--map", "denseav"]

    refused = segmentation(*options, "--max-missing", "0")
    assert refused.exit_code == 1
    assert f"{images[0]} not there" in output_text(refused)
    assert "Complete the data, or accept it with --max-missing" in output_text(refused)
    assert not (tmp_path / "out").exists()

    result = segmentation(*options, "--max-missing", "0.9")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (
        report["counts"]["scored"] + len(report["counts"]["unusable"])
        == report["counts"]["listed"]
        == len(table)
    )
    assert report["counts"]["scored"] < len(table)
    for one in report["counts"]["unusable"]:
        image, _, audio_file = one["item"].split(" · ")
        assert one["state"] in (states.get(image), by_audio.get(audio_file))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Rows without a score" in page
    assert "is silent from beginning to end" in page


def test_a_mask_of_another_size_is_named_with_both_sizes(root: Path, data: Path) -> None:
    mask = next((data / "annotations").iterdir())
    Image.fromarray(pixels(mask)).resize((20, 30)).save(mask)
    result = segmentation("--root", root, "--data", data, "--map", "denseav", "--max-missing", "0")
    assert result.exit_code == 1
    assert f"{mask} is 20 x 30, its image" in output_text(result)
    assert "is 64 x 64" in output_text(result)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no prompted_segmentation.csv, nor does a folder ADE20KSoundPrompted in it"),
        ("image_location,ade_class\na.jpg,dog\n", "has no column ade_class_id, vggsound_file; it has"),
        (
            "image_location,ade_class,ade_class_id,vggsound_file\na.jpg,dog,x,b.wav\n",
            "'x', which is no number",
        ),
        ("image_location,ade_class,ade_class_id,vggsound_file\na.jpg,dog,0,b.wav\n", "1 rows, and none has"),
        (
            "image_location,ade_class,ade_class_id,vggsound_file\na.jpg,dog,7,b.wav\n",
            "only 0 of 1 rows scored; 1 missing",
        ),
    ],
)
def test_data_that_cannot_be_read_is_refused_in_one_message(
    root: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "prompted_segmentation.csv").write_text(content)
    result = segmentation("--root", root, "--data", tmp_path)
    assert result.exit_code == 1
    assert message in output_text(result)
    assert "Traceback" not in result.output


def test_a_model_that_diverged_gets_no_score(root: Path, tmp_path: Path) -> None:
    model = CavMaeSync(micro_model(image_size=SIDE))
    torch.nn.init.constant_(model.norm_v.weight, float("nan"))
    save_model(model, tmp_path / "nan.safetensors")
    result = segmentation("--root", root, "--checkpoint", tmp_path / "nan.safetensors")
    assert result.exit_code == 1
    assert "values are NaN or infinite, and no score can be made of them" in output_text(result)


def test_a_file_that_is_no_model_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    result = segmentation("--root", root, "--checkpoint", tmp_path / "text.pth")
    assert result.exit_code == 1
    assert "text.pth" in output_text(result)
    assert "Traceback" not in result.output
