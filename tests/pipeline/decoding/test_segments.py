"""Proves that a whole video is read segment by segment as if it were one: frames and audio at their times."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.media import KnownClip, chirp, lag_s, read_frame_number, run_ffmpeg, write_clip

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.decoding import segments as module
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import MediaSegment
from cavsync.pipeline.decoding.segments import VideoSegments


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", 14.5)


@pytest.fixture(autouse=True)
def segments_of_5_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SEGMENT_S", 5)


def segments_of(path: Path) -> list[MediaSegment]:
    with DecoderProcess() as decoder:
        return list(VideoSegments(path, 2.0, 32, decoder))


def test_segments_join_without_a_seam(clip: KnownClip) -> None:
    segments = segments_of(clip.path)
    assert [segment.start_s for segment in segments] == [0, 5, 10]
    frame_times_s = np.array([time_s for segment in segments for time_s in segment.frame_times_s])
    assert len(frame_times_s) == 29
    assert np.diff(frame_times_s) == pytest.approx(0.5, abs=0.041)
    frames = [np.asarray(Image.open(io.BytesIO(jpeg))) for segment in segments for jpeg in segment.frames]
    assert [read_frame_number(frame) for frame in frames] == [
        clip.frame_number_at(time_s) for time_s in frame_times_s
    ]
    waveform = np.concatenate([segment.waveform for segment in segments])
    assert len(waveform) / SAMPLE_RATE_HZ == pytest.approx(14.5, abs=0.05)
    times_s = np.arange(len(waveform)) / SAMPLE_RATE_HZ
    for seam_s in (5, 10):
        around = slice((seam_s - 1) * SAMPLE_RATE_HZ, (seam_s + 1) * SAMPLE_RATE_HZ)
        assert abs(lag_s(waveform[around], chirp(times_s[around]), SAMPLE_RATE_HZ)) <= 0.001


def test_audio_that_ends_early_ends_the_segments(clip: KnownClip, tmp_path: Path) -> None:
    path = tmp_path / "short_audio.mp4"
    run_ffmpeg("-i", clip.path, "-c:v", "copy", "-af", "atrim=0:7", path)
    segments = segments_of(path)
    assert len(segments) == 2
    assert segments[1].shared_s(0.5) == pytest.approx(2.0, abs=0.1)
    assert len(segments[1].waveform) == round(segments[1].shared_s(0.5) * SAMPLE_RATE_HZ)
    assert max(segments[1].frame_times_s) < 7.1


def test_a_file_that_is_no_video_raises_its_state(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="it is not there") as raised:
        segments_of(tmp_path / "nowhere.mp4")
    assert raised.value.state is ClipState.MISSING
    blink = write_clip(tmp_path / "blink.mp4", 0.32)
    with pytest.raises(MediaError, match=r"holds 0\.3. s of audio and frames"):
        segments_of(blink.path)
