"""Proves that a whole video is read piece by piece as if it were one: pictures, sound and log-mel at their times."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.media import KnownClip, chirp, lag_s, read_frame_number, run_ffmpeg, write_clip

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.decoding import video as module
from cavsync.pipeline.decoding.video import read_footage
from cavsync.pipeline.media.mel import log_mel


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    return write_clip(tmp_path_factory.mktemp("footage") / "clip.mp4", 14.5)


@pytest.fixture
def pieces_of_5_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PIECE_S", 5)


@pytest.mark.usefixtures("pieces_of_5_s")
def test_pieces_join_without_a_seam(clip: KnownClip) -> None:
    heard: list[tuple[int, int]] = []
    footage = read_footage(clip.path, 2.0, 32, lambda done, total: heard.append((done, total)))
    assert footage.duration_s == pytest.approx(14.5, abs=0.05)
    assert len(footage.pictures) == 29
    assert np.diff(footage.times_s) == pytest.approx(0.5, abs=0.041)
    shown = [read_frame_number(np.asarray(Image.open(io.BytesIO(jpeg)))) for jpeg in footage.pictures]
    assert shown == [clip.picture_at(time_s) for time_s in footage.times_s]
    times_s = np.arange(len(footage.waveform)) / SAMPLE_RATE_HZ
    for seam_s in (5, 10):
        around = slice((seam_s - 1) * SAMPLE_RATE_HZ, (seam_s + 1) * SAMPLE_RATE_HZ)
        assert abs(lag_s(footage.waveform[around], chirp(times_s[around]), SAMPLE_RATE_HZ)) <= 0.001
    assert [done for done, _ in heard][:2] == [5, 10]
    assert heard[-1][0] == heard[-1][1]


def test_the_log_mel_is_the_one_of_the_whole_waveform(
    clip: KnownClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    footage = read_footage(clip.path, 1.0, 32)
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 333)
    np.testing.assert_allclose(footage.mel(), log_mel(footage.waveform), atol=0.05)  # quietest bands


@pytest.mark.usefixtures("pieces_of_5_s")
def test_sound_that_ends_early_ends_the_footage(clip: KnownClip, tmp_path: Path) -> None:
    path = tmp_path / "short_sound.mp4"
    run_ffmpeg("-i", clip.path, "-c:v", "copy", "-af", "atrim=0:7", path)
    footage = read_footage(path, 2.0, 32)
    assert footage.duration_s == pytest.approx(7.0, abs=0.1)
    assert footage.file_duration_s == pytest.approx(14.5, abs=0.05)
    assert footage.times_s.max() < 7.1


def test_what_is_no_video_is_refused_with_its_state(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="it is not there") as raised:
        read_footage(tmp_path / "nowhere.mp4", 2.0, 32)
    assert raised.value.state is ClipState.MISSING
    blink = write_clip(tmp_path / "blink.mp4", 0.32)
    with pytest.raises(MediaError, match=r"holds 0\.3. s of sound and picture"):
        read_footage(blink.path, 2.0, 32)
