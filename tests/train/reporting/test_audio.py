"""Proves that a clip's audio can be played: from its source, or, where that is gone, made from its log-mel."""

import io
from collections.abc import Callable
from dataclasses import replace

import av
import numpy as np
import pytest
from support.known_shards import prepared_row
from support.media import KnownClip

from cavsync.pipeline.dataset.choices import AudioCodec
from cavsync.pipeline.dataset.index_row import KeptAudio
from cavsync.pipeline.dataset.reader import ClipContent
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.media.audio_file import encoded_audio
from cavsync.pipeline.media.encode import mp3_bytes
from cavsync.pipeline.media.mel import log_mel
from cavsync.train.reporting.audio import playable_audio, waveform_of_mel


def tone(hz: float, duration_s: float = 2.0) -> np.ndarray:
    times_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.5 * np.sin(2 * np.pi * hz * times_s)).astype(np.float32)


def decoded(mp3: bytes) -> np.ndarray:
    with av.open(io.BytesIO(mp3)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def loudest_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * SAMPLE_RATE_HZ / len(waveform))


def test_an_mp3_holds_the_audio_in_a_few_kilobytes() -> None:
    mp3 = mp3_bytes(tone(440.0))
    waveform = decoded(mp3)
    assert len(mp3) < 5_000 * 2
    assert len(waveform) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=2_000)
    assert loudest_hz(waveform) == pytest.approx(440, abs=1)
    assert np.abs(waveform[8_000:24_000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
def test_remade_audio_has_the_pitch_of_its_log_mel(hz: float) -> None:
    mel = log_mel(tone(hz)).astype(np.float16)
    waveform = waveform_of_mel(mel)
    assert len(waveform) == pytest.approx(2 * SAMPLE_RATE_HZ, rel=0.02)
    assert loudest_hz(waveform) == pytest.approx(hz, rel=0.05)  # about a mel band
    assert np.abs(waveform).max() == pytest.approx(0.5)


def test_silence_is_remade_as_something_finite() -> None:
    assert np.isfinite(waveform_of_mel(log_mel(np.zeros(16_000)).astype(np.float16))).all()


def test_the_source_is_played_where_it_exists(known_clip: Callable[[str], KnownClip]) -> None:
    clip = known_clip("plain")
    row = prepared_row(source=str(clip.path), duration_s=1.5)
    stored = ClipContent([], log_mel(tone(3000.0)).astype(np.float16))
    with DecoderProcess() as decoder:
        audio = playable_audio(row, stored, "first", decoder)
        assert not audio.from_mel
        # The clip's chirp begins at 500 Hz and rises by 300 Hz a second.
        assert 500 < loudest_hz(decoded(audio.mp3)[:SAMPLE_RATE_HZ]) < 850
        for source in (None, str(clip.path.with_name("gone.mp4"))):
            from_log_mel = playable_audio(replace(row, source=source), stored, "first", decoder)
            assert from_log_mel.from_mel
            assert loudest_hz(decoded(from_log_mel.mp3)) == pytest.approx(3000, rel=0.05)


@pytest.mark.parametrize("codec", ["flac", "opus"])
def test_kept_audio_is_played_where_the_source_is_gone(codec: AudioCodec) -> None:
    waveform = np.tile(tone(1000.0), (2, 1)).astype(np.float32)
    kept = KeptAudio(kept_codec=codec, kept_rate_hz=SAMPLE_RATE_HZ, kept_channels=2)
    mel = log_mel(tone(3000.0)).astype(np.float16)
    stored = ClipContent([], mel, encoded_audio(waveform, SAMPLE_RATE_HZ, codec))
    with DecoderProcess() as decoder:
        audio = playable_audio(replace(prepared_row(duration_s=2.0), kept=kept), stored, "first", decoder)
    assert not audio.from_mel
    assert loudest_hz(decoded(audio.mp3)) == pytest.approx(1000, abs=1)
