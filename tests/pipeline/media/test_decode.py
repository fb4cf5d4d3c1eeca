"""Proves that frames are those on screen at their instants and that audio is at its time, for any container.

test_alignment.py proves frames and windows together; this file proves each by itself, and unusual files.
"""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from support.media import (
    GOOD_CLIPS,
    KnownClip,
    chirp,
    lag_s,
    read_frame_number,
    run_ffmpeg,
    silence,
    write_clip,
)

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import MediaFacts
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.audio import one_channel, resampled
from cavsync.pipeline.media.audio_track import AudioTrack
from cavsync.pipeline.media.backends.choice import open_media
from cavsync.pipeline.media.decode import DecodedClip
from cavsync.pipeline.media.demuxing.clock import Span
from cavsync.pipeline.media.frame_selection import TimedFrame, on_screen

KnownClips = Callable[[str], KnownClip]


def decode(path: Path, start_s: float = 0.0, duration_s: float = 10.0, **config: Any) -> DecodedClip:
    with open_media(path, 60.0) as media:
        return media.decode(start_s, duration_s, PrepareConfig(**config))


def facts(path: Path) -> MediaFacts:
    with open_media(path, 60.0) as media:
        return media.facts


def read_jpeg(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def numbers(clip: DecodedClip) -> list[int]:
    return [read_frame_number(read_jpeg(frame)) for frame in clip.frames]


@pytest.mark.parametrize("name", GOOD_CLIPS)
def test_frames_are_on_screen_at_their_instants(name: str, known_clip: KnownClips) -> None:
    known, clip = known_clip(name), decode(known_clip(name).path)
    assert clip.duration_s == pytest.approx(10.0, abs=0.03)
    wanted_s = (np.arange(16) + 0.5) * clip.duration_s / 16
    assert numbers(clip) == [known.frame_number_at(time_s) for time_s in wanted_s]
    begins_s = [known.frame_times_s[number] - known.source_start_s for number in numbers(clip)]
    np.testing.assert_allclose(clip.frame_pts_s, begins_s, atol=1e-3)


@pytest.mark.parametrize("name", GOOD_CLIPS)
def test_audio_is_at_its_time(name: str, known_clip: KnownClips) -> None:
    known, clip = known_clip(name), decode(known_clip(name).path)
    times_s = np.arange(len(clip.waveform)) / SAMPLE_RATE_HZ
    expected = np.where(times_s < known.audio_start_s, 0.0, chirp(known.source_start_s + times_s))
    assert lag_s(clip.waveform, expected, SAMPLE_RATE_HZ) == pytest.approx(0.0, abs=1e-3)
    # Every second by itself: a hole or a jump anywhere would show.
    for second in range(1, 9):
        part = slice(second * SAMPLE_RATE_HZ, (second + 1) * SAMPLE_RATE_HZ)
        # mp4 rounds a late start to 1 ms.
        assert abs(lag_s(clip.waveform[part], expected[part], SAMPLE_RATE_HZ)) < 2e-3
    before = int((known.audio_start_s - 0.05) * SAMPLE_RATE_HZ)
    assert not clip.waveform[: max(0, before)].any()


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    """20 s with a keyframe every 4 s."""
    folder = tmp_path_factory.mktemp("upload")
    options = {"preset": "veryfast", "g": "100", "keyint_min": "100", "sc_threshold": "0", "bf": "2"}
    return write_clip(folder / "upload.mp4", 20.0, video_options=options, channels=2)


@pytest.mark.parametrize("start_s", [3.9, 4.0, 6.34, 10.0])
def test_a_clip_is_cut_out_of_a_whole_upload(start_s: float, upload: KnownClip) -> None:
    clip = decode(upload.path, start_s)
    wanted_s = start_s + (np.arange(16) + 0.5) * 10 / 16
    assert numbers(clip) == [upload.frame_number_at(time_s) for time_s in wanted_s]
    assert len(clip.waveform) == 10 * SAMPLE_RATE_HZ
    expected = chirp(start_s + np.arange(len(clip.waveform)) / SAMPLE_RATE_HZ)
    for part in (slice(0, 4000), slice(-16000, None)):  # right from its first sample on
        assert lag_s(clip.waveform[part], expected[part], SAMPLE_RATE_HZ) == pytest.approx(0.0, abs=1e-3)
        assert np.abs(clip.waveform[part] - expected[part]).mean() < 0.05


def test_a_file_that_ends_early_gives_a_shorter_clip(upload: KnownClip) -> None:
    clip = decode(upload.path, 14.0)
    assert clip.duration_s == pytest.approx(6.0, abs=0.05)
    wanted_s = 14.0 + (np.arange(16) + 0.5) * clip.duration_s / 16
    assert numbers(clip) == [upload.frame_number_at(time_s) for time_s in wanted_s]


def test_a_clip_past_the_end_is_too_short(upload: KnownClip) -> None:
    with pytest.raises(MediaError, match="ends before the clip begins") as raised:
        decode(upload.path, 25.0)
    assert raised.value.state is ClipState.TOO_SHORT


def test_upstream_frames_end_with_the_last_frame(upload: KnownClip) -> None:
    clip = decode(upload.path, 0.0, frame_times="upstream", num_frames=4)
    assert numbers(clip) == [upload.frame_number_at(time_s) for time_s in (0.0, 3.32, 6.64, 9.96)]


def test_the_frame_on_screen_is_the_last_that_begun() -> None:
    frames = [TimedFrame(begins_s, av.VideoFrame(16, 16)) for begins_s in (2, 4, 6, 8)]
    shown = on_screen(frames, [0.0, 1.0, 4.0, 5.9, 6.0, 99.0])
    assert [frame and frame.begins_s for frame in shown] == [None, None, 4, 4, 6, 8]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_phone_video_is_stored_upright(degrees: int, tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.mp4", 2.0, size=(160, 96))
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", f"{degrees}", "-i", plain.path, "-c", "copy", turned)
    reference = tmp_path / "reference.png"  # ffmpeg turns frames by itself
    run_ffmpeg("-ss", "1.0", "-i", turned, "-frames:v", "1", reference)
    clip = decode(turned, num_frames=1, frame_size=96, crop="none")
    expected = np.asarray(Image.open(reference)).astype(int)
    assert read_jpeg(clip.frames[0]).shape == expected.shape
    assert np.abs(read_jpeg(clip.frames[0]) - expected).mean() < 4


@pytest.mark.parametrize(("crop", "shape"), [("centre", (64, 64, 3)), ("none", (64, 85, 3))])
def test_the_short_side_has_the_asked_size(crop: str, shape: tuple[int, ...], known_clip: KnownClips) -> None:
    clip = decode(known_clip("plain").path, frame_size=64, crop=crop, num_frames=2)
    assert [read_jpeg(frame).shape for frame in clip.frames] == [shape, shape]


def left_and_right(path: Path) -> Path:
    """Stereo: a chirp on the left, nothing on the right."""
    mono = write_clip(path.with_name("mono.mp4"), 2.0)
    run_ffmpeg("-i", mono.path, "-c:v", "copy", "-af", "pan=stereo|c0=c0|c1=0*c0", path)
    return path


def test_the_first_channel_is_taken_before_any_mix(tmp_path: Path) -> None:
    path = left_and_right(tmp_path / "stereo.mp4")
    first, mean = decode(path).waveform, decode(path, audio_channel="mean").waveform
    expected = chirp(np.arange(len(first)) / SAMPLE_RATE_HZ)
    middle = slice(4000, 20000)
    assert np.abs(first[middle] - expected[middle]).mean() < 0.03
    assert np.abs(mean[middle] - expected[middle] / 2).mean() < 0.03


@pytest.mark.parametrize(
    ("form", "dtype", "value", "expected"),
    [("u8", np.uint8, 192, 0.5), ("s16", np.int16, -16384, -0.5), ("s32p", np.int32, 2**30, 0.5)],
)
def test_integer_samples_become_fractions(form: str, dtype: type, value: int, expected: float) -> None:
    data = np.zeros((2, 4) if form.endswith("p") else (1, 8), dtype)
    data[0] = value
    frame = av.AudioFrame.from_ndarray(data, format=form, layout="stereo")
    np.testing.assert_allclose(one_channel(frame, "first"), [expected] * 4)


@pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000, 96_000])
def test_resampling_moves_nothing(rate_hz: int) -> None:
    at_rate, at_16k = (chirp(np.arange(2 * rate) / rate) for rate in (rate_hz, SAMPLE_RATE_HZ))
    result = resampled(at_rate.astype(np.float32), rate_hz)
    assert len(result) == 2 * SAMPLE_RATE_HZ
    assert np.abs(result - at_16k)[200:-200].max() < 0.01


def test_resampling_in_pieces_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = chirp(np.arange(100_000) / 44_100).astype(np.float32)
    in_pieces = resampled(samples, 44_100)
    monkeypatch.setattr("cavsync.pipeline.media.audio.PIECE_SAMPLES", len(samples))
    assert np.array_equal(in_pieces, resampled(samples, 44_100))


def audio_frame(pts: int, value: float, size: int = 100) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.full((1, size), value, np.float32), format="flt", layout="mono")
    frame.pts, frame.sample_rate, frame.time_base = pts, SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
    return frame


def test_gaps_are_silent_overlaps_are_trimmed_and_jitter_is_closed() -> None:
    track = AudioTrack(Span(0.0, 1.0), "first")
    # Before the clip; a gap of 3200; 16 samples of jitter; 800 samples back over the last frame.
    for pts, value in ((-800, 0.1), (4000, 0.2), (5616, 0.3), (6400, 0.4)):
        track.add(audio_frame(pts, value, 1600))
    runs = [(0, 800, 0.1), (800, 4000, 0.0), (4000, 5600, 0.2), (5600, 7200, 0.3), (7200, 8000, 0.4)]
    waveform = track.waveform()
    assert len(waveform) == 8000
    for start, stop, value in runs:
        assert (waveform[start:stop] == np.float32(value)).all()
    assert track.gaps_s == [(0.05, 0.25)]


def test_a_changing_sample_rate_goes_on_in_time() -> None:
    track = AudioTrack(Span(0.0, 1.0), "first")
    track.add(audio_frame(0, 0.1))
    slower = audio_frame(50, 0.3)
    slower.sample_rate, slower.time_base = 8000, Fraction(1, 8000)
    track.add(slower)
    assert track.end_s == pytest.approx(0.01875)
    assert len(track.waveform()) == 300
    np.testing.assert_allclose(track.waveform()[140:260], 0.3, atol=0.05)


def test_stills_are_known(tmp_path: Path, known_clip: KnownClips) -> None:
    still = write_clip(tmp_path / "still.mp4", 2.0, frame_times_s=[0.0, 1.96], audio=silence)
    run_ffmpeg("-i", still.path, "-vf", "select='eq(n,0)',loop=50:1,setpts=N/25/TB", tmp_path / "same.mp4")
    assert decode(tmp_path / "same.mp4").still
    assert not decode(known_clip("plain").path).still


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("no_audio", ClipState.NO_AUDIO, "no audio stream"),
        ("no_video", ClipState.NO_VIDEO, "no video stream"),
        ("not_a_video", ClipState.DECODE_ERROR, "it is an HTML page"),
        ("truncated", ClipState.DECODE_ERROR, "FFmpeg: "),
    ],
)
def test_bad_files_have_a_reason(name: str, state: ClipState, reason: str, known_clip: KnownClips) -> None:
    with pytest.raises(MediaError, match=reason) as raised:
        decode(known_clip(name).path)
    assert raised.value.state is state


def test_a_blink_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"holds 0\.3. s of audio and frames, less than 1 s") as raised:
        decode(write_clip(tmp_path / "blink.mp4", 0.32).path)
    assert raised.value.state is ClipState.TOO_SHORT


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "cover.png")
    song = write_clip(tmp_path / "song.mp4", 2.0, video_codec=None)
    inputs = ("-i", song.path, "-i", tmp_path / "cover.png")
    run_ffmpeg(
        *inputs,
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        tmp_path / "a.m4v",
    )
    with pytest.raises(MediaError, match="no video stream"):
        decode(tmp_path / "a.m4v")


def test_a_clip_that_takes_too_long_is_given_up(known_clip: KnownClips) -> None:
    with (
        pytest.raises(MediaError, match="not decoded within 1e-09 s") as raised,
        open_media(known_clip("plain").path, 1e-9) as media,
    ):
        media.decode(0.0, 10.0, PrepareConfig())
    assert raised.value.state is ClipState.TIMEOUT


def test_a_vanished_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is not there") as raised:
        decode(tmp_path / "gone.mp4")
    assert raised.value.state is ClipState.MISSING


def test_facts_are_the_files_own(known_clip: KnownClips) -> None:
    found = facts(known_clip("edit_list").path)
    assert (found.video_codec, found.audio_codec, found.width, found.height) == ("h264", "aac", 160, 120)
    assert (found.sample_rate_hz, found.num_channels) == (44100, 1)
    assert found.fps == pytest.approx(29.97, abs=0.01)


def damaged(content: bytes, seed: int) -> bytes:
    """A copy that is cut off, has flipped bits, lost a piece, or claims absurd things in its header."""
    random = np.random.default_rng(seed)
    broken = bytearray(content)
    offset = int(random.integers(len(broken)))
    match seed % 4:
        case 0:
            return bytes(broken[:offset])
        case 1:
            for flipped in random.integers(len(broken), size=100):
                broken[flipped] ^= 1 << int(random.integers(8))
        case 2:
            del broken[offset : offset + 3000]
        case 3:
            start = int(random.integers(1500))
            broken[start : start + 8] = bytes([255, 0, 127, 255] * 2)
    return bytes(broken)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_damaged_copies_are_decoded_or_have_a_reason(suffix: str, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / f"whole.{suffix}", 3.0).path.read_bytes()
    states = set()
    for seed in range(60):
        path = tmp_path / f"{seed}.{suffix}"
        path.write_bytes(damaged(whole, seed))
        try:
            states.add(ClipState.OK if decode(path).frames else None)
        except MediaError as error:
            states.add(error.state)
    assert None not in states
    assert {ClipState.OK, ClipState.DECODE_ERROR} <= states
