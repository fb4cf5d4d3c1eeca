"""Proves alignment from the mp4 to the model: the frame and the audio segment of a pair have the same time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.known_shards import micro_model
from support.media import GOOD_CLIPS, KnownClip, read_frame_number, read_time_s
from typer.testing import CliRunner

from cavsync.cli.main import app
from cavsync.train.data.config import DataConfig
from cavsync.train.data.pair_rule import SampleIndex
from cavsync.train.data.pairs import ClipAllPairs, ClipPairs

WINDOW_ROWS = 96
WINDOW_S = 0.01 * WINDOW_ROWS + 0.015  # rows of 10 ms, the last one 25 ms long


@pytest.fixture(scope="module")
def dataset(known_clip: Callable[[str], KnownClip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All the well-behaved clips, prepared as a user prepares a folder."""
    folder = tmp_path_factory.mktemp("aligned")
    (folder / "videos").mkdir()
    for name in GOOD_CLIPS:
        path = known_clip(name).path
        (folder / "videos" / path.name).symlink_to(path)
    command = ["prepare", "folder", str(folder / "videos"), "--out", str(folder / "data")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return folder / "data"


@pytest.fixture
def data(dataset: Path) -> DataConfig:
    """Windows as they are stored."""
    return DataConfig(path=str(dataset), mel_mean=0.0, mel_std=1.0)


@pytest.mark.parametrize("name", GOOD_CLIPS)
def test_frame_and_audio_of_a_pair_have_the_same_time(
    name: str, data: DataConfig, known_clip: Callable[[str], KnownClip]
) -> None:
    clip, pairs = known_clip(name), ClipAllPairs(data, micro_model(audio_rows=WINDOW_ROWS, image_size=224))
    number = [key.rpartition("_")[0] for key in pairs.store.keys].index(name)
    item = pairs[number]
    longest_frame_s = np.diff(clip.frame_times_s).max()
    for frame, (image, window) in enumerate(zip(item["image"], item["audio"], strict=True)):
        wanted_s = (frame + 0.5) * 10 / 16
        shown_s = clip.frame_times_s[read_frame_number(image.numpy())] - clip.source_start_s
        assert abs(shown_s - wanted_s) <= longest_frame_s + 1e-6, f"frame {frame}"
        inside = wanted_s - WINDOW_S / 2 > clip.audio_start_s and wanted_s + WINDOW_S / 2 < clip.duration_s
        if inside:
            # The first row of a window centred on the frame begins half a window before it.
            audio_s = read_time_s(window.numpy()) - clip.source_start_s
            assert audio_s == pytest.approx(shown_s - WINDOW_S / 2, abs=longest_frame_s + 0.010)


def test_audio_and_stored_time_agree_to_10_ms(
    data: DataConfig, known_clip: Callable[[str], KnownClip]
) -> None:
    # Against the stored pts, not the wanted time: no frame duration is in this error, only the row's 10 ms / 2.
    pairs = ClipAllPairs(data, micro_model(audio_rows=WINDOW_ROWS, image_size=224))
    for number, key in enumerate(pairs.store.keys):
        clip, item = known_clip(key.rpartition("_")[0]), pairs[number]
        for pts_s, window in zip(pairs.store[number].frame_pts_s(), item["audio"], strict=True):
            if clip.audio_start_s < pts_s - WINDOW_S / 2 and pts_s + WINDOW_S / 2 < clip.duration_s:
                audio_s = read_time_s(window.numpy()) - clip.source_start_s
                assert audio_s + WINDOW_S / 2 == pytest.approx(pts_s, abs=0.010), key


def test_training_draws_the_same_pairs_that_scoring_lists(data: DataConfig) -> None:
    model = micro_model(audio_rows=WINDOW_ROWS, image_size=224)
    every, drawn = ClipAllPairs(data, model), ClipPairs(data, model, seed=0)
    for clip in range(len(every)):
        pair, listed = drawn[SampleIndex(epoch=1, clip=clip)], every[clip]
        assert (pair["audio"] == listed["audio"][pair["frame"]]).all()
        assert (pair["image"] == listed["image"][pair["frame"]]).all()
