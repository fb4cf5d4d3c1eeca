"""Proves AV-SyncBench's rule in `cavsync eval synchrony`: on perturbed clips of a split and on listed files, with models that read
the time from frames and audio, so that every accuracy is arithmetic."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from support.clock_models import DeafClock, ShardClock, VideoClock, load_instead
from support.command_line import output_text, run
from support.known_shards import raw_data, write_known_shards
from support.media import KnownClip, run_ffmpeg, write_clip
from torch import nn

from cavsync.pipeline.media.mel import log_mel
from cavsync.train.data.inputs import PUBLISHED_INPUTS
from cavsync.train.evaluation.synchrony.perturbed.pairs import ScoredPair, accuracy
from cavsync.train.evaluation.synchrony.perturbed.perturbation import (
    JITTER,
    LOG_FLOOR,
    OFFSET,
    SPEED,
    TIMBRE,
    Perturbation,
    perturbations,
    tilted,
)

NUM_CLIPS = 3
OFFSETS = ["50 ms", "100 ms", "200 ms", "300 ms", "500 ms"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("data"), num_clips=NUM_CLIPS)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of no consequence: the tests replace the model."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"")
    return path


def synchrony(*options: object) -> Result:
    return run("eval", "synchrony", *options)


@pytest.fixture
def scored(
    dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[nn.Module], dict[str, Any]]:
    """The record of a model on the split, with --pairwise."""

    def score(model: nn.Module) -> dict[str, Any]:
        load_instead(monkeypatch, model, raw_data(dataset))
        options = (
            "--checkpoint",
            weights,
            "--data",
            dataset,
            "--split",
            "train",
            "--pairwise",
            "--step",
            "1",
        )
        result = synchrony(*options, "--out", tmp_path / "out", "--json")
        assert result.exit_code == 0, result.output
        record: dict[str, Any] = json.loads(result.stdout)
        return record

    return score


def values(group: dict[str, Any]) -> dict[str, float]:
    return {name: one["accuracy"]["value"] for name, one in group.items()}


# The clips of a split


def test_a_clock_in_step_prefers_its_own_audio_to_all_that_changes_time(
    scored: Callable[[nn.Module], dict[str, Any]], tmp_path: Path
) -> None:
    record = scored(ShardClock())
    pairwise = record["results"]["pairwise"]
    # The filters of timbre change the number of the row, which this clock reads from a low band.
    assert values(pairwise["negatives"]) == {OFFSET: 100, JITTER: 100, SPEED: 100, TIMBRE: 100}
    assert pairwise["negatives"][TIMBRE]["num_pairs"] == 2 * NUM_CLIPS
    assert values(pairwise["amounts"][OFFSET]) == dict.fromkeys(OFFSETS, 100)
    assert pairwise["negatives"][OFFSET]["num_pairs"] == 10 * NUM_CLIPS
    assert pairwise["negatives"][OFFSET]["num_clips"] == NUM_CLIPS
    assert list(pairwise["amounts"][JITTER]) == ["100 ms", "300 ms"]
    assert list(pairwise["amounts"][SPEED]) == ["10 %", "20 %"]
    figure = record["figures"]["pairwise: offset, 50 ms"]
    assert (figure["value"], figure["chance"]) == (100, 50)
    assert figure["low"] < 100
    page = (tmp_path / "out" / "report.html").read_text()
    for part in ("Own audio against perturbed audio", "another gallery", "Synchformer, VGGSound", "66.2"):
        assert part in page


def test_a_clock_that_is_300_ms_late_prefers_audio_that_comes_sooner(
    scored: Callable[[nn.Module], dict[str, Any]],
) -> None:
    """Audio advanced by less than 600 ms is nearer to what it takes for right than its own is; delayed audio is farther."""
    pairwise = scored(ShardClock(late_s=0.3))["results"]["pairwise"]
    assert values(pairwise["directions"]) == {"advance": 0, "delay": 100}
    assert values(pairwise["amounts"][OFFSET]) == dict.fromkeys(OFFSETS, 50)


def test_a_model_that_gives_all_audio_one_vector_ties_everywhere_and_gets_nothing(
    scored: Callable[[nn.Module], dict[str, Any]],
) -> None:
    pairwise = scored(DeafClock())["results"]["pairwise"]
    for one in pairwise["negatives"].values():
        assert one["num_ties"] == one["num_pairs"] > 0
        assert one["accuracy"]["value"] == 0


# The perturbations


def noise(num_samples: int = 48_000) -> np.ndarray:
    samples: np.ndarray = 0.1 * np.random.default_rng(0).standard_normal(num_samples)
    return samples.astype(np.float32)


def test_a_log_mel_moved_by_rows_is_that_of_the_moved_waveform() -> None:
    waveform = noise()
    moved, held = Perturbation(OFFSET, 50).apply(log_mel(waveform), "clip", 0)
    delayed = np.concatenate([np.zeros(800, np.float32), waveform[:-800]])
    assert held.tolist() == [False] * 5 + [True] * (len(moved) - 5)
    np.testing.assert_allclose(moved[held], log_mel(delayed)[held], atol=1e-3)


def test_a_tilted_log_mel_is_that_of_the_filtered_waveform() -> None:
    waveform = noise()
    hz = np.maximum(np.fft.rfftfreq(len(waveform), 1 / 16_000), 16_000 / 512)
    filtered = np.fft.irfft(np.fft.rfft(waveform) * 10 ** (6 * np.log2(hz / 1000) / 20), len(waveform))
    expected, found = log_mel(filtered.astype(np.float32)), tilted(log_mel(waveform), 6.0)
    # Bands from 300 Hz on; below, a band is narrower than a bin of the spectrum.
    np.testing.assert_allclose(found.mean(axis=0)[20:], expected.mean(axis=0)[20:], atol=0.15)


def test_silence_stays_silent_through_a_filter() -> None:
    silence = np.full((3, 128), LOG_FLOOR, np.float16)
    assert (tilted(silence, 6.0) == silence).all()


def test_jitter_moves_each_half_second_by_its_amount_and_stays_in_the_audio() -> None:
    rows = np.arange(230)
    jitter = Perturbation(JITTER, 300)
    source = jitter.source_rows(230, "clip", 0)
    assert set(np.abs(source - rows)) == {30}
    assert all(
        len(set(source[start : start + 50] - rows[start : start + 50])) == 1 for start in range(0, 230, 50)
    )
    assert source.min() >= 0
    assert source.max() < 230
    assert (jitter.source_rows(230, "clip", 0) == source).all()
    assert any((jitter.source_rows(230, name, 0) != source).any() for name in "abc")


def test_faster_audio_runs_out_and_slower_audio_is_cut() -> None:
    mel = np.arange(100.0)[:, None].repeat(128, axis=1).astype(np.float16)
    faster, held = Perturbation(SPEED, 1.25).apply(mel, "clip", 0)
    assert held.sum() == 80
    assert faster[held, 0].tolist() == np.rint(np.arange(80) * 1.25).tolist()
    slower, held = Perturbation(SPEED, 0.8).apply(mel, "clip", 0)
    assert held.all()
    assert slower[-1, 0] == 79


def test_a_clip_is_compared_with_eighteen_perturbations() -> None:
    found = [(one.negative, one.label) for one in perturbations()]
    assert len(found) == 18
    assert (
        found.count((OFFSET, "500 ms"))
        == found.count((SPEED, "10 %"))
        == found.count((TIMBRE, "6 dB an octave"))
        == 2
    )


# The figures


def pairs_of(*clips: Sequence[float]) -> list[ScoredPair]:
    """Pairs whose own audio scores 0.5, and whose perturbed audio the given values; one sequence a clip."""
    return [
        ScoredPair(str(number), OFFSET, "50 ms", "", 0.5, value)
        for number, clip in enumerate(clips)
        for value in clip
    ]


def test_ties_are_wrong_and_pairs_of_a_clip_belong_together() -> None:
    found = accuracy(pairs_of([0.4, 0.5], [0.6, 0.5 + 1e-8], [0.4, 0.4]))
    assert (found.num_clips, found.num_pairs, found.num_ties) == (3, 6, 2)
    assert found.accuracy.value == pytest.approx(50)
    single = accuracy(pairs_of([0.4], [0.6], [0.4]))
    together = accuracy(pairs_of([0.4] * 50, [0.6] * 50, [0.4] * 50))
    # More pairs of the same three clips say nothing more.
    assert single.accuracy.low is not None
    assert together.accuracy.low is not None
    assert together.accuracy.low < 25
    assert single.accuracy.value == together.accuracy.value == pytest.approx(200 / 3)


# Listed files


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    folder = tmp_path_factory.mktemp("clip")
    clip = write_clip(folder / "clip.mp4", 4.0)
    run_ffmpeg("-i", clip.path, "-vn", folder / "own.wav")
    run_ffmpeg("-i", clip.path, "-an", "-c", "copy", folder / "mute.mp4")
    run_ffmpeg("-i", clip.path, "-vn", "-af", "atrim=start=0.5,asetpts=PTS-STARTPTS", folder / "advanced.wav")
    return clip


def listed(clip: KnownClip, weights: Path, name: str, content: str, *options: object) -> Result:
    manifest = clip.path.parent / name
    manifest.write_text(content)
    return synchrony(
        "--checkpoint", weights, "--manifest", manifest, "--out", weights.parent / "out", *options
    )


def test_avsyncbenchs_list_is_read_and_scored(
    clip: KnownClip, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_instead(monkeypatch, VideoClock(PUBLISHED_INPUTS))
    moved = {
        "original_video": "clip.mp4",
        "edit_type": "time_shifted",
        "direction": "advance",
        "category": "x",
    }
    rows = [
        {**moved, "sample_id": "right", "edited_audio": "advanced.wav", "offset_ms": 500},
        {
            **moved,
            "sample_id": "tie",
            "original_audio": "own.wav",
            "edited_audio": "own.wav",
            "offset_ms": 50,
        },
        {
            **moved,
            "sample_id": "mute",
            "original_video": "mute.mp4",
            "original_audio": "own.wav",
            "edited_audio": "advanced.wav",
            "offset_ms": 200,
        },
        {
            **moved,
            "sample_id": "wrong",
            "original_audio": "advanced.wav",
            "edited_audio": "own.wav",
            "offset_ms": 100,
        },
        {
            "sample_id": "frames",
            "original_video": "clip.mp4",
            "edited_video": "other.mp4",
            "edit_type": "time_shifted",
        },
        {"sample_id": "gone", "original_video": "clip.mp4", "edited_audio": "no.wav", "edit_type": "voice"},
    ]
    content = "\n".join(map(json.dumps, rows))
    result = listed(clip, weights, "metadata.jsonl", content, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["evaluation"], record["counts"]["listed"], record["counts"]["scored"]) == (
        "synchrony-pairs",
        6,
        4,
    )
    states = {one["item"]: one["state"] for one in record["counts"]["unusable"]}
    assert states == {"frames": "no_audio", "gone": "missing"}
    pairwise = record["results"]["pairwise"]
    assert values(pairwise["amounts"][OFFSET]) == {"500 ms": 100, "50 ms": 0, "100 ms": 0, "200 ms": 100}
    assert pairwise["amounts"][OFFSET]["50 ms"]["num_ties"] == 1
    assert values(pairwise["directions"]) == {"advance": 50}
    assert pairwise["negatives"][OFFSET]["num_clips"] == 2  # two videos
    page = (weights.parent / "out" / "report.html").read_text()
    assert "SparseSync, VGGSound-Sparse" in page
    assert "only audio is scored" in page


def test_a_csv_of_pairs_is_read_and_scored(
    clip: KnownClip, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_instead(monkeypatch, VideoClock(PUBLISHED_INPUTS))
    content = (
        "original,perturbed,negative,amount\nclip.mp4,advanced.wav,offset,500 ms\nclip.mp4,clip.mp4,copy,\n"
    )
    result = listed(clip, weights, "pairs.csv", content)
    assert result.exit_code == 0, result.output
    assert "2 of 2 pairs scored" in output_text(result)
    record = json.loads((weights.parent / "out" / "report.json").read_text())
    assert record["figures"]["pairwise: offset, 500 ms"]["value"] == 100
    assert record["figures"]["pairwise: copy"]["value"] == 0


def test_frames_after_the_end_of_shorter_audio_do_not_count(
    clip: KnownClip, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame at 3 s has no window in the 2 s that the perturbed file has: paired with the last window it would lower both scores."""
    load_instead(monkeypatch, VideoClock(PUBLISHED_INPUTS))
    folder = clip.path.parent
    for name, seconds in (("short.wav", "2"), ("instant.wav", "0.05")):
        run_ffmpeg("-i", clip.path, "-vn", "-t", seconds, folder / name)
    content = "original,perturbed,negative,amount\nclip.mp4,own.wav,cut,100 %\nclip.mp4,short.wav,cut,50 %\nclip.mp4,instant.wav,cut,1 %\n"
    result = listed(clip, weights, "pairs.csv", content, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    whole, cut = (one["own"] for one in record["results"]["pairs"])
    assert cut == pytest.approx(whole, abs=0.01)
    (unusable,) = record["counts"]["unusable"]
    assert unusable["state"] == "too_short"
    assert "shorter than the model's window" in unusable["reason"]
    # Amounts are in the order of their numbers.
    assert list(record["results"]["pairwise"]["amounts"]["cut"]) == ["50 %", "100 %"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "pairs.csv",
            "original,negative\n",
            "has no column perturbed, amount. A CSV of pairs begins with the line",
        ),
        ("pairs.csv", "original,perturbed,negative,amount\n", "lists no pair"),
        (
            "pairs.csv",
            "original,perturbed,negative,amount\na.mp4,,offset,1\n",
            "line 2: original, perturbed and",
        ),
        ("pairs.csv", "original,perturbed,negative,amount\n" + 2 * "a,b,c,d\n", "lists a · b twice"),
        (
            "list.jsonl",
            '\n{"original_video": "a.mp4"}',
            "line 2: it has no edited_audio. A JSON object with original_video, edited_audio",
        ),
        ("list.jsonl", "[]", "line 1: it is no object. A JSON object"),
        ("list.jsonl", "no json", "line 1: Expecting value: line 1 column 1 (char 0). A JSON object"),
        (
            "list.jsonl",
            '{"original_video": "no.mp4", "edited_audio": "b.wav", "edit_type": "x"}',
            "0 of 1 pairs scored; 1 missing",
        ),
    ],
)
def test_a_list_that_cannot_be_scored_is_refused_in_one_message(
    name: str, content: str, message: str, clip: KnownClip, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_instead(monkeypatch, VideoClock(PUBLISHED_INPUTS))
    result = listed(clip, weights, name, content)
    assert result.exit_code == 1
    assert message in output_text(result)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--manifest", "a.csv", "--video", "b.mp4"], "--manifest lists its own files and pairs"),
        (["--manifest", "a.csv", "--pairwise"], "--manifest lists its own files and pairs"),
        (["--video", "b.mp4", "--pairwise"], "for files, list pairs with --manifest"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: list[str], message: str) -> None:
    result = synchrony(*options)
    assert result.exit_code == 2
    assert message in output_text(result)
