"""Proves that a whole video becomes one clip: all frames, the log-mel of the whole waveform, silence in its holes."""

from pathlib import Path

import pytest
from support.field.muxing import remuxed
from support.media import KnownClip, read_frame_number, read_time_s, run_ffmpeg, silence, write_clip

from cavsync.pipeline.decoding import segments as module
from cavsync.train.embedding.video import read_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", 14.5)


@pytest.fixture(autouse=True)
def segments_of_5_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SEGMENT_S", 5)


def test_frames_and_log_mel_are_those_of_the_whole_file(clip: KnownClip) -> None:
    reported: list[tuple[int, int]] = []
    whole = read_video(clip.path, 2.0, 32, lambda done, total: reported.append((done, total)))
    assert whole.clip.frames.shape == (29, 32, 32, 3)
    numbers = [read_frame_number(frame.numpy()) for frame in whole.clip.frames]
    assert numbers == [clip.frame_number_at(time_s) for time_s in whole.clip.times_s]
    for first_row in (0, 450, 950, 1300):  # at the seams too
        rows = whole.clip.mel[first_row : first_row + 100]
        assert read_time_s(rows) == pytest.approx(first_row / 100, abs=0.005)
    assert [done for done, _ in reported][:2] == [5, 10]
    assert reported[-1][0] == reported[-1][1]
    assert not whole.is_silent


def test_missing_audio_is_named(clip: KnownClip, tmp_path: Path) -> None:
    path = tmp_path / "lost.mkv"
    remuxed(clip.path, path, lambda kind, at_s, packet: None if kind == "audio" and 6 < at_s < 8 else packet)
    ((start_s, stop_s),) = read_video(path, 2.0, 32).audio_gaps_s
    assert (start_s, stop_s) == (pytest.approx(6, abs=0.05), pytest.approx(8, abs=0.05))


def test_audio_that_ends_early_ends_the_video(clip: KnownClip, tmp_path: Path) -> None:
    path = tmp_path / "short_audio.mp4"
    run_ffmpeg("-i", clip.path, "-c:v", "copy", "-af", "atrim=0:7", path)
    whole = read_video(path, 2.0, 32)
    assert whole.duration_s == pytest.approx(7.0, abs=0.1)
    assert whole.file_duration_s == pytest.approx(14.5, abs=0.05)
    assert whole.clip.times_s.max() < 7.1


def test_a_video_without_a_sample_above_the_threshold_is_silent(tmp_path: Path) -> None:
    assert read_video(write_clip(tmp_path / "silent.mp4", 2.0, audio=silence).path, 2.0, 32).is_silent
