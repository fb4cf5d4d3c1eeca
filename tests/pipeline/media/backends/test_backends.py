"""Proves that every decoder returns the right frames and audio for every kind of file, or refuses the file.

REFUSALS lists what a decoder may refuse; a new error fails, and so does an entry that is no longer needed.
"""

import io
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import av
import av.codec
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.media import KnownClip, lag_s, read_frame_number, write_clip
from support.media_kinds import KINDS, NEEDS
from typer.testing import CliRunner

from cavsync.cli.main import app
from cavsync.pipeline.dataset.choices import DecoderName
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.backends.choice import open_media
from cavsync.pipeline.media.decode import DecodedClip

KnownClips = Callable[[str], KnownClip]

DECODERS: tuple[DecoderName, ...] = get_args(DecoderName)
HIDDEN = "100 frames are hidden by an edit list and decord counts them"
UNTIMED = "does not say when they are shown"
REFUSALS = {
    ("edit_list", "decord"): HIDDEN,
    ("edit_list_b_frames", "decord"): HIDDEN,
    ("av1", "decord"): "decord cannot open it",
    ("av1_mkv", "decord"): "decord cannot open it",
    ("avi_mpeg4_b", "decord"): UNTIMED,
    ("avi_mpeg4_b", "ffmpeg"): UNTIMED,
    ("avi_h264", "decord"): UNTIMED,
    ("avi_h264", "ffmpeg"): UNTIMED,
    ("mpegts", "decord"): "decord's times are up to 0.0109 s off",
}
# The clip lies in the middle of this upload.
START_S = {"two_minutes": 50.04}


def require(available: bool, what: str) -> None:
    """Skip at home, fail on CI, where nothing may be missing."""
    if not available and os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    if not available:
        pytest.skip(f"{what} is missing")


def has_encoder(name: str) -> bool:
    return name in av.codec.codecs_available and av.codec.Codec(name, "w").is_encoder


def require_decoder(decoder: DecoderName) -> None:
    if decoder == "decord" and platform.machine() != "x86_64":
        pytest.skip("decord has no wheel for this machine")


def decode(path: Path, decoder: DecoderName, start_s: float = 0.0, **config: object) -> DecodedClip:
    with open_media(path, 60.0, decoder) as media:
        return media.decode(start_s, 10.0, PrepareConfig(**config))  # type: ignore[arg-type]


def numbers(clip: DecodedClip, turned: int = 0) -> list[int]:
    """What the frames show, turned back to how they were coded."""
    images = [np.asarray(Image.open(io.BytesIO(frame))) for frame in clip.frames]
    return [read_frame_number(np.rot90(image, -turned)) for image in images]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_audio_are_at_their_times(kind: str, decoder: DecoderName, known_clip: KnownClips) -> None:
    require_decoder(decoder)
    require(has_encoder(NEEDS.get(kind, "libx264")), f"FFmpeg's encoder {NEEDS.get(kind)}")
    known, start_s = known_clip(kind), START_S.get(kind, 0.0)
    if (kind, decoder) in REFUSALS:
        with pytest.raises(MediaError, match=f"{REFUSALS[kind, decoder]}; use --decoder pyav$") as raised:
            decode(known.path, decoder, start_s)
        assert raised.value.state is ClipState.DECODE_ERROR
        assert raised.value.reason.startswith(f"{decoder}-")
        return
    clip = decode(known.path, decoder, start_s)
    assert clip.duration_s == pytest.approx(min(10.0, known.duration_s), abs=0.05)
    check_frames(clip, known, start_s)
    check_audio(clip, known, start_s)


def check_frames(clip: DecodedClip, known: KnownClip, start_s: float) -> None:
    wanted_s = start_s + (np.arange(16) + 0.5) * clip.duration_s / 16
    shown = np.array(numbers(clip, known.turned))
    assert np.abs(shown - [known.frame_number_at(time_s) for time_s in wanted_s]).max() <= 1
    begins_s = np.array(known.frame_times_s)[shown] - known.source_start_s - start_s
    np.testing.assert_allclose(clip.frame_pts_s, begins_s, atol=0.041)


def check_audio(clip: DecodedClip, known: KnownClip, start_s: float) -> None:
    times_s = np.arange(len(clip.waveform)) / SAMPLE_RATE_HZ
    expected = known.waveform(known.source_start_s + start_s + times_s)
    expected[times_s < known.audio_start_s] = 0.0
    for part in np.array_split(np.arange(len(expected))[1600:], 4):  # a hole or a jump anywhere would show
        assert abs(lag_s(clip.waveform[part], expected[part], SAMPLE_RATE_HZ)) <= 0.01
        loudness = np.std(clip.waveform[part]) / np.std(expected[part])
        assert loudness == pytest.approx(1.0, abs=0.1)  # a mix of opposed channels would be silent


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_blink_is_too_short(decoder: DecoderName, tmp_path: Path) -> None:
    require_decoder(decoder)
    blink = write_clip(tmp_path / "blink.mp4", 0.32)
    with pytest.raises(MediaError, match=r"holds 0\.3. s of audio and frames") as raised:
        decode(blink.path, decoder)
    assert raised.value.state is ClipState.TOO_SHORT


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_clip_past_the_end_is_too_short(decoder: DecoderName, known_clip: KnownClips) -> None:
    require_decoder(decoder)
    with pytest.raises(MediaError, match="ends before the clip begins") as raised:
        decode(known_clip("mono").path, decoder, 25.0)
    assert raised.value.state is ClipState.TOO_SHORT


@pytest.fixture
def damaged(tmp_path: Path, known_clip: KnownClips) -> KnownClip:
    """Packets 100 to 109 of the video are zeros; at 25 frames a second they are shown from 4.0 s on."""
    known = known_clip("b_frames")
    content = bytearray(known.path.read_bytes())
    with av.open(str(known.path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for offset, size in packets[100:110]:
        content[offset : offset + size] = bytes(size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    return replace(known, path=path)


def test_damaged_frames_are_a_gap_and_cost_no_other(damaged: KnownClip) -> None:
    clip = decode(damaged.path, "pyav")
    assert clip.duration_s == pytest.approx(10.0, abs=0.05)
    assert clip.frame_gaps_s
    assert 3.9 < clip.frame_gaps_s[0][0] < clip.frame_gaps_s[-1][1] < 4.7
    wanted_s = (np.arange(16) + 0.5) * clip.duration_s / 16
    whole = [not 3.9 < time_s < 4.7 for time_s in wanted_s]
    shown = np.array(numbers(clip))[whole]
    assert shown.tolist() == [damaged.frame_number_at(time_s) for time_s in wanted_s[whole]]
    assert (clip.frame_pts_s <= wanted_s + 1e-6).all()


@pytest.mark.parametrize("decoder", [decoder for decoder in DECODERS if decoder != "pyav"])
def test_other_decoders_refuse_damaged_frames(decoder: DecoderName, damaged: KnownClip) -> None:
    # Not one of them may show a neighbouring frame without a word.
    require_decoder(decoder)
    with pytest.raises(MediaError) as raised:
        decode(damaged.path, decoder)
    assert raised.value.state is ClipState.DECODE_ERROR


def test_counting_frames_is_seconds_off(known_clip: KnownClips) -> None:
    # What decord's users do, and why it is refused: the proof above can fail.
    decord = pytest.importorskip("decord")
    known = known_clip("edit_list")
    reader = decord.VideoReader(str(known.path), num_threads=1)
    indices = (np.arange(16) * len(reader) / 16).astype(int)
    shown = [read_frame_number(reader[index].asnumpy()) for index in indices]
    wanted = [known.frame_number_at(i * 10 / 16) for i in range(16)]
    assert np.abs(np.array(shown) - wanted).max() / 29.97 > 1.0


@pytest.mark.parametrize("kind", ["plain", "hevc", "vp9", "turned_90"])
def test_decoders_agree_on_the_pixels(kind: str, known_clip: KnownClips) -> None:
    clips = [decode(known_clip(kind).path, decoder) for decoder in DECODERS]
    reference, *others = [
        [np.asarray(Image.open(io.BytesIO(frame))).astype(int) for frame in clip.frames] for clip in clips
    ]
    for frames in others:
        assert max(np.abs(one - two).mean() for one, two in zip(reference, frames, strict=True)) < 1.0


def test_the_mean_of_opposed_channels_is_silent(known_clip: KnownClips) -> None:
    for decoder in DECODERS:
        waveform = decode(known_clip("stereo").path, decoder, audio_channel="mean").waveform
        assert np.abs(waveform).max() < 0.02


@pytest.mark.parametrize("decoder", DECODERS)
def test_odd_names_are_names(
    decoder: DecoderName, known_clip: KnownClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = known_clip("mono").path.read_bytes()
    folder = known_clip("mono").path.parent
    monkeypatch.chdir(folder)
    for name in ("-y.mp4", "a:b.mp4", "$(touch gone).mp4", "%03d 'x' [0].mp4"):
        (folder / name).write_bytes(content)
        assert len(decode(Path(name), decoder, num_frames=2).frames) == 2
    assert not (folder / "gone").exists()


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_index_names_the_decoder_of_each_clip(decoder: DecoderName, tmp_path: Path) -> None:
    require_decoder(decoder)
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "clip.mp4", 1.5)
    out = tmp_path / "data"
    command = ["prepare", "folder", str(tmp_path / "videos"), "--out", str(out), "--decoder", decoder]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (row,) = pq.read_table(out / "index").to_pylist()
    assert row["state"] == "ok"
    assert row["decoder"].startswith(f"{decoder}-")


def test_an_unknown_decoder_is_refused() -> None:
    with pytest.raises(
        ValueError, match="decoder='opencv' cannot be used; it must be pyav or decord or ffmpeg"
    ):
        PrepareConfig(decoder="opencv")  # type: ignore[arg-type]


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("cavsync.pipeline.media.backends.ffmpeg_program.ffmpeg_path", lambda: str(program))
    monkeypatch.setattr("cavsync.pipeline.media.backends.ffmpeg.ffmpeg_version", lambda: "0")


def test_a_program_that_hangs_is_killed(
    tmp_path: Path, known_clip: KnownClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ffmpeg(tmp_path, monkeypatch, "exec sleep 60")
    started = time.monotonic()
    with (
        pytest.raises(MediaError, match=r"not decoded within 0\.5 s") as raised,
        open_media(known_clip("mono").path, 0.5, "ffmpeg") as media,
    ):
        media.decode(0.0, 10.0, PrepareConfig())
    assert raised.value.state is ClipState.TIMEOUT
    assert time.monotonic() - started < 5


def test_a_program_that_fails_is_quoted(
    tmp_path: Path, known_clip: KnownClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than a pipe holds, and an address that would differ from run to run.
    script = "yes noise | head -c 200000 >&2; echo >&2; echo '[h264 @ 0x55d0c0ffee00] no room' >&2; exit 3"
    fake_ffmpeg(tmp_path, monkeypatch, script)
    with pytest.raises(MediaError, match=r"the ffmpeg program failed: \[h264\] no room$"):
        decode(known_clip("mono").path, "ffmpeg")


def test_a_program_that_leaves_frames_out_is_refused(
    known_clip: KnownClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cavsync.pipeline.media.backends.ffmpeg.FfmpegDecoder._is_one_of", lambda *_: "eq(n,0)"
    )
    with pytest.raises(
        MediaError, match=r"shows no frame at 0\.080 s, where the container has one; use --dec"
    ):
        decode(known_clip("mono").path, "ffmpeg")
