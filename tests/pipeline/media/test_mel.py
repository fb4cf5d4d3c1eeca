"""Proves that the log-mel is that of the published models: torchaudio's, and the recorded reference rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.reference.mel import torchaudio_mel

from cavsync.pipeline.media.mel import log_mel, long_log_mel

# Rows of the fbank of one formula, recorded from torchaudio under upstream's settings, rounded to 4 digits.
REFERENCE = json.loads((Path(__file__).parents[2] / "support" / "golden" / "fbank_rows.json").read_text())


def two_tones() -> np.ndarray:
    """0.5 sin(2 pi 440 t) and a rising tone, 10 s."""
    n = np.arange(160_000)
    tone, rising = 440 * n / 16000, (50 + 0.01 * n) * n / 16000
    return (0.5 * np.sin(2 * np.pi * tone) + 0.25 * np.sin(2 * np.pi * rising)).astype(np.float32)


def noise(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0.05, 0.1, num_samples).astype(np.float32)


@pytest.mark.parametrize("waveform", [noise(160_000), noise(400), noise(16_123), noise(160_000) * 0.01])
def test_it_equals_torchaudio(waveform: np.ndarray) -> None:
    mel = log_mel(waveform)
    assert mel.dtype == np.float32
    np.testing.assert_allclose(mel, torchaudio_mel(waveform), rtol=0, atol=1e-3)


def test_empty_bands_beside_pure_tones_equal_torchaudio_up_to_rounding() -> None:
    # There the energy is the rounding error of a float32 transform, which differs between processors: up to 1e-9 of
    # the loudest band of the same row.
    energy, expected = np.exp(log_mel(two_tones())), np.exp(torchaudio_mel(two_tones()))
    rounding = 1e-9 * expected.max(axis=1, keepdims=True)
    assert (np.abs(energy - expected) <= 1e-3 * expected + rounding).all()


def test_it_equals_the_reference_rows() -> None:
    mel = log_mel(two_tones())
    assert list(mel.shape) == REFERENCE["shape"]
    for row, values in REFERENCE["frames"].items():
        np.testing.assert_allclose(mel[int(row)], values, rtol=0, atol=5e-3)


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(
        log_mel(np.zeros(800, np.float32)), np.log(np.finfo(np.float32).eps), atol=1e-6
    )


def test_less_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="399 samples are less than one mel row"):
        log_mel(noise(399))


def test_blocks_of_a_long_waveform_join_to_its_log_mel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cavsync.pipeline.media.mel.LONG_ROWS", 333)
    mel = long_log_mel(two_tones())
    assert mel.dtype == np.float16
    # Each block is freed of its own mean, which shows in the quietest bands only.
    loud = log_mel(two_tones()) > -4
    np.testing.assert_allclose(mel[loud], log_mel(two_tones())[loud], rtol=0, atol=0.05)
