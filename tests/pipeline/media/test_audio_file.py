"""Proves the audio file of a clip: its rates, its channels, and that the same samples give the same bytes."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.media import run_ffmpeg, write_clip

from cavsync.pipeline.dataset.choices import AudioCodec, AudioRate
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.media.audio_file import decoded_audio, encoded_audio, kept_rate_hz
from cavsync.pipeline.media.backends.choice import open_media


@pytest.mark.parametrize(
    ("codec", "rate", "source_hz", "expected_hz"),
    [
        ("flac", "source", 44_100, 44_100),
        ("flac", "source", 96_000, 96_000),
        ("flac", "source", 384_000, 48_000),
        ("flac", "source", 100_001, 48_000),
        ("flac", "16000", 44_100, 16_000),
        ("opus", "source", 8_000, 8_000),
        ("opus", "source", 11_025, 12_000),
        ("opus", "source", 22_050, 24_000),
        ("opus", "source", 44_100, 48_000),
        ("opus", "source", 96_000, 48_000),
        ("opus", "16000", 8_000, 16_000),
    ],
)
def test_the_rate_is_one_that_the_codec_has(
    codec: AudioCodec, rate: AudioRate, source_hz: int, expected_hz: int
) -> None:
    assert kept_rate_hz(codec, rate, source_hz) == expected_hz
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(expected_hz) / expected_hz)[None].astype(np.float32)
    content = encoded_audio(tone, expected_hz, codec)
    samples, rate_hz = soundfile.read(io.BytesIO(content))
    assert (samples.shape, rate_hz) == ((expected_hz,), expected_hz)
    assert decoded_audio(content, codec, expected_hz).shape == (1, expected_hz)
    assert encoded_audio(tone, expected_hz, codec) == content


@pytest.mark.parametrize("codec", ["flac", "opus"])
def test_what_is_no_such_file_is_an_error(codec: AudioCodec) -> None:
    other: AudioCodec = "opus" if codec == "flac" else "flac"
    content = encoded_audio(np.zeros((1, 8_000), np.float32), 8_000, other)
    for damaged in (
        content,
        b"",
        b"text" * 400,
        encoded_audio(np.zeros((1, 8_000), np.float32), 8_000, codec)[:40],
    ):
        with pytest.raises(ValueError, match=r"it cannot be decoded|it holds no audio"):
            decoded_audio(damaged, codec, 8_000)


def test_samples_beyond_full_scale_are_cut_off() -> None:
    loud = np.array([[1.5, -1.5, 0.25] * 4_000], np.float32)
    samples, _ = soundfile.read(io.BytesIO(encoded_audio(loud, 8_000, "flac")), dtype="int16")
    assert samples[:3].tolist() == [32_767, -32_768, 8_192]


def test_more_than_two_channels_are_mixed_as_the_ffmpeg_program_mixes_them(tmp_path: Path) -> None:
    mono = write_clip(tmp_path / "mono.mkv", 1.5, sample_rate=48_000, audio_codec="pcm_s16le").path
    # Six channels of one chirp, each at another loudness.
    gains = "|".join(f"c{channel}={gain}*c0" for channel, gain in enumerate((0.9, 0.1, 0.5, 0.7, 0.3, 0.2)))
    surround = ("-filter_complex", f"[0:a]pan=5.1|{gains}[a]", "-map", "0:v", "-map", "[a]")
    run_ffmpeg("-i", mono, *surround, "-c:v", "copy", "-c:a", "pcm_s16le", tmp_path / "surround.mkv")
    run_ffmpeg("-i", tmp_path / "surround.mkv", "-vn", "-ac", "2", tmp_path / "mixed.wav")
    expected, _ = soundfile.read(tmp_path / "mixed.wav", dtype="float32")
    config = PrepareConfig(num_frames=2, frame_size=32, keep_audio="flac", keep_audio_rate="source")
    with open_media(str(tmp_path / "surround.mkv"), 60.0) as media:
        kept = media.decode(0.0, 1.5, config).kept_audio
    assert kept is not None
    assert kept.samples.shape == (2, 72_000)
    assert np.abs(kept.samples.T - expected).max() < 2**-14
