"""Proves what `cavsync eval localization` and `eval segmentation` say of silence, noise and another clip's sound, with models
whose maps are known: one that follows its audio, and one that gives every audio the same map."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.clock_models import StandIn, load_instead, raw_images
from support.command_line import output_text, run
from support.known_shards import micro_model
from torch import Tensor

from cavsync.model.output import Encoding
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.segmentation_set import write_prompted, write_wav
from cavsync.pipeline.synthetic.world import make_world
from cavsync.train.data.config import DataConfig
from cavsync.train.evaluation.heatmaps.negative_audio import PromptedMaps
from cavsync.train.evaluation.heatmaps.negative_figures import correlation, harmonic, measure_negatives
from cavsync.train.evaluation.heatmaps.overlap import (
    area_under_success,
    areas_under_rejection,
    ciou,
    cious_above,
)
from cavsync.train.evaluation.localization.boxes import BoxRow, BoxSet

INPUTS = DataConfig(mel_mean=-5.0, mel_std=4.0, pad_value=-5.0)
PATCH = 16
# Kinds of audio, and of patches: their vectors are orthogonal.
LOW, HIGH, SILENT, NOISY, BLACK = range(5)
FOREIGN = "another clip"


class Follower(StandIn):
    """Red patches belong to low audio, blue patches to high audio, and nothing to silence and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.config = micro_model(image_size=64)

    def encode_audio(self, audio: Tensor) -> Encoding:
        vectors = torch.eye(5)[[self.kind_of(mel.numpy() * 4 - 5) for mel in audio]]
        patches = vectors[:, None, None].repeat(1, 8, audio.shape[1] // PATCH, 1)
        return Encoding(vectors, patches)

    def kind_of(self, mel: np.ndarray) -> int:
        """Of a (rows, 128) log-mel."""
        bands = mel.mean(axis=0)
        if bands.max() < -15:
            return SILENT
        if bands.max() < np.median(bands) + 4:
            return NOISY
        return LOW if bands.argmax() < 64 else HIGH

    def encode_image(self, image: Tensor) -> Encoding:
        centres = raw_images(image)[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]  # (1, 4, 4, 3)
        kinds = torch.where(centres[..., 0] > 128, LOW, torch.where(centres[..., 2] > 128, HIGH, BLACK))
        patches = torch.eye(5)[self.shown(kinds)]
        return Encoding(patches.mean(dim=(1, 2)), patches)

    def shown(self, kinds: Tensor) -> Tensor:
        return kinds


class Deaf(Follower):
    """Every audio belongs to every patch that is not black."""

    def kind_of(self, mel: np.ndarray) -> int:
        return LOW

    def shown(self, kinds: Tensor) -> Tensor:
        return torch.where(kinds == BLACK, BLACK, LOW)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images whose lower half makes a low sound and is red, or a high one and is blue."""
    data = tmp_path_factory.mktemp("vggss")
    for part in ("frames", "audio"):
        (data / part).mkdir()
    time_s = np.arange(16_000) / 16_000
    items = []
    for number, (name, channel, pitch_hz) in enumerate(
        [("a", 0, 300), ("b", 0, 300), ("c", 2, 5000), ("d", 2, 5000)]
    ):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[32:, :, channel] = 255
        Image.fromarray(pixels).save(data / f"frames/{name}.jpg", quality=95)
        write_wav(data / f"audio/{name}.wav", 0.5 * np.sin(2 * np.pi * pitch_hz * time_s), 16_000)
        label = "low" if number < 2 else "high"
        items.append({"file": name, "class": label, "bbox": [[0.0, 0.5, 1.0, 1.0]]})
    (data / "vggss.json").write_text(json.dumps(items))
    return data


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of no consequence: the tests replace the model."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"")
    return path


def localized(data: Path, weights: Path, out: Path) -> dict[str, Any]:
    result = run("eval", "localization", "--checkpoint", weights, "--data", data, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return record


def test_a_map_that_follows_its_audio_lights_nothing_for_other_audio(
    boxes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_instead(monkeypatch, Follower(), INPUTS)
    record = localized(boxes, weights, tmp_path / "out")
    scores = record["results"]["negative_audio"]["denseav"]
    assert list(scores["negatives"]) == ["silence", "noise", FOREIGN]
    # The map rises from 0 at row 84 of 224 to 1 at row 140; above 9/19 are the rows from 111 on, and the box has 112 rows.
    assert scores["threshold"] == pytest.approx(9 / 19)
    assert scores["right_ciou"]["value"] == pytest.approx(100 * 112 / 113)
    for negative in scores["negatives"].values():
        assert negative["num_images"] == 4
        assert (negative["area"]["value"], negative["lit"]["value"], negative["lower"]["value"]) == (
            0,
            0,
            100,
        )
        assert negative["area"]["chance"] == pytest.approx(100 * 113 / 224)
        assert negative["correlation"]["value"] == 0  # a map of one value
    # All maps of negatives are 0, so the universal threshold is 0: 140 rows are above it.
    assert scores["universal_threshold"] == 0
    assert scores["universal_ciou"]["value"] == pytest.approx(80)
    assert scores["universal_auc"]["value"] == pytest.approx(82.5)
    assert record["figures"]["denseav: F_LOC"]["value"] == pytest.approx(100 * 2 * 0.8 / 1.8)
    assert record["figures"]["denseav: F_AUC"]["value"] == pytest.approx(100 * 2 * 0.825 / 1.825)
    (finding,) = record["results"]["findings"]
    assert finding.startswith(
        f"Maps of denseav change with their audio: those of silence, noise and {FOREIGN} are lower"
    )


def test_a_map_that_ignores_its_audio_is_reported_in_words_and_figures(
    boxes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_instead(monkeypatch, Deaf(), INPUTS)
    out = tmp_path / "out"
    result = run("eval", "localization", "--checkpoint", weights, "--data", boxes, "--out", out)
    assert "denseav ignores its audio: its maps of silence, noise and another clip look" in output_text(
        result
    )
    record = json.loads((out / "report.json").read_text())
    for name, negative in record["results"]["negative_audio"]["denseav"]["negatives"].items():
        assert negative["area"]["value"] == pytest.approx(negative["area"]["chance"])
        assert (negative["lit"]["value"], negative["lower"]["value"]) == (100, 0)
        assert negative["correlation"]["value"] == pytest.approx(1)
        figure = record["figures"][f"denseav: {name} lower"]
        assert figure["note"] == "ignored: same maps"
        assert (figure["value"], figure["chance"]) == (0, 50)
    # The published figure alone would not show it.
    assert record["results"]["methods"]["denseav"]["published"]["ciou"]["value"] == 100
    page = (out / "report.html").read_text()
    assert "Audio that nothing in the image makes" in page
    assert "ignores its audio" in page


def test_another_clips_sound_is_drawn_from_the_seed(
    boxes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_instead(monkeypatch, Follower(), INPUTS)
    first, second = (localized(boxes, weights, tmp_path / name) for name in "ab")
    assert first["results"] == second["results"]
    assert first["figures"] == second["figures"]


def test_foreign_sounds_are_of_another_video_and_of_no_label_of_the_image() -> None:
    box = ((0.0, 0.0, 1.0, 1.0),)
    dog, cat = BoxRow("x_000010", "x_000010", "dog", box), BoxRow("x_000010", "y_000010", "cat", box)
    bird, same_video = BoxRow("z_000010", "z_000010", "bird", box), BoxRow("x_000030", "x_000030", "cow", box)
    other_cat, no_source = BoxRow("w", "w", "cat", box), BoxRow("x_000010", "v", "", ())
    rows = (dog, cat, bird, same_video, other_cat, no_source)
    data = BoxSet(Path(), "vggss", rows, Path())
    assert [row for row in rows if data.is_foreign(dog, row)] == [bird]
    assert [row for row in rows if data.is_foreign(bird, row)] == [dog, cat, same_video, other_cat]


def test_segmentation_reports_a_map_that_ignores_its_audio(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(WorldConfig(num_train=0, num_test=3, side_px=64, seed=5), tmp_path / "world").root
    write_prompted(world, tmp_path / "set", selection="all", rows_per_class=1)
    load_instead(monkeypatch, Deaf(), INPUTS)
    options = (
        "--checkpoint",
        weights,
        "--data",
        tmp_path / "set",
        "--map",
        "denseav",
        "--out",
        tmp_path / "out",
    )
    result = run("eval", "segmentation", *options, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    negatives = record["results"]["negative_audio"]["denseav"]["negatives"]
    assert list(negatives) == ["silence", "noise", FOREIGN]
    for negative in negatives.values():
        assert negative["area"]["value"] == pytest.approx(negative["area"]["chance"])
        assert negative["lower"]["value"] == 0
    assert "denseav ignores its audio: its maps" in record["results"]["findings"][0]
    assert "denseav: pIA, noise" in record["figures"]


def test_few_images_that_all_have_lower_maps_do_not_count_as_ignored() -> None:
    truth = np.ones((4, 4))
    right = [np.array([[0.0, 2.0], [4.0, 6.0]], np.float32)] * 3
    lower = [one / 2 for one in right]
    maps = PromptedMaps(right, {"silence": [*lower], "noise": [*right]})
    assert measure_negatives(maps, lambda number: truth, 4).ignored == ("noise",)


def test_overlap_at_many_thresholds_is_that_at_each() -> None:
    random = np.random.default_rng(0)
    scores, truth = random.integers(0, 5, (6, 7)) / 4, random.choice([0.0, 0.5, 1.0], (6, 7))
    thresholds = np.array([-1.0, 0.0, 0.3, 0.75, 1.0])
    expected = [ciou(scores > one, truth) for one in thresholds]
    np.testing.assert_allclose(cious_above(scores, truth, thresholds), expected)
    assert cious_above(scores, np.zeros((6, 7)), thresholds).tolist() == [0] * 5


def test_areas_under_the_curves_of_negatives_mirror_those_of_the_right_sound() -> None:
    values = np.array([0.2, 0.5, 0.8])
    assert areas_under_rejection(values).mean() == pytest.approx(1 - area_under_success(values) + 0.05)
    assert areas_under_rejection(np.array([0.0, 1.0])).tolist() == pytest.approx([1, 0.025])


def test_the_harmonic_mean_gives_each_negative_one_part_whatever_its_number_of_images() -> None:
    right = np.array([1.0, 0.5])
    negatives = np.array([[1.0, 0.0], [0.25, np.nan]])
    mean_negative = (0.5 + 0.25) / 2
    assert harmonic(right, negatives).value == pytest.approx(
        100 * 2 * 0.75 * mean_negative / (0.75 + mean_negative)
    )
    assert harmonic(np.zeros(2), np.zeros((1, 2))).value == 0


def test_maps_that_differ_in_scale_only_correlate_and_flat_ones_resemble_flat_ones() -> None:
    ramp, flat = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    assert correlation(ramp, 3 * ramp + 1) == pytest.approx(1)
    assert correlation(ramp, -ramp) == pytest.approx(-1)
    assert (correlation(ramp, flat), correlation(flat, 2 * flat)) == (0, 1)
