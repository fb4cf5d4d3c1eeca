"""Proves the index of codes: it finds similar codes as comparing all with all does, and never becomes quadratic."""

import numpy as np
import pytest

from cavsync.pipeline.duplicates.audio_codes import audio_codes
from cavsync.pipeline.duplicates.code_index import NEIGHBOURS, CodeList, key_bits, similar_codes
from cavsync.pipeline.duplicates.frame_codes import MIRROR, frame_codes, mirrored
from cavsync.pipeline.media.mel import log_mel

MAX_DISTANCE = 6


def with_flips(random: np.random.Generator, codes: np.ndarray, num: int) -> np.ndarray:
    """uint64 (codes,): each with `num` bits flipped."""
    bits = np.argsort(random.random((len(codes), 64)), axis=1)[:, :num].astype(np.uint64)
    return codes ^ np.bitwise_or.reduce(np.uint64(1) << bits, axis=1)


def test_similar_codes_are_found_and_no_others() -> None:
    random = np.random.default_rng(0)
    originals = random.integers(0, 2**64, 3_000, np.uint64)
    codes = np.concatenate([originals, with_flips(random, originals[:500], 2)])
    found = similar_codes(CodeList(codes, np.arange(len(codes), dtype=np.int32)), MAX_DISTANCE, 24)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    planted = {(number, 3_000 + number) for number in range(500)}
    # Two flipped bits leave one of eight windows of 24 bits whole, wherever they are.
    assert pairs == planted
    assert found.num_limited == 0


def test_codes_of_one_clip_or_of_one_side_do_not_meet() -> None:
    codes = np.full(6, 12345, np.uint64)
    owners = np.array([0, 0, 1, 1, 2, 2], np.int32)
    met = similar_codes(CodeList(codes, owners), MAX_DISTANCE)
    assert {(owners[one], owners[other]) for one, other in zip(met.first, met.second, strict=True)} == {
        (0, 1),
        (0, 2),
        (1, 2),
    }
    sides = np.array([0, 0, 0, 0, 1, 1], np.int8)
    met = similar_codes(CodeList(codes, owners, sides), MAX_DISTANCE)
    assert {(owners[one], owners[other]) for one, other in zip(met.first, met.second, strict=True)} == {
        (0, 2),
        (1, 2),
    }


def test_a_code_of_very_many_clips_costs_a_fixed_number_of_pairs_each() -> None:
    num = 5_000
    met = similar_codes(CodeList(np.full(num, 7, np.uint64), np.arange(num, dtype=np.int32)), MAX_DISTANCE)
    assert len(met.first) <= num * NEIGHBOURS
    assert len(set(met.first.tolist()) | set(met.second.tolist())) == num  # each met some
    assert met.num_limited > 0


def test_accidental_meetings_grow_with_the_number_of_codes_and_not_with_its_square() -> None:
    random = np.random.default_rng(0)
    counts = []
    for num in (2**14, 2**17):
        codes = random.integers(0, 2**64, num, np.uint64)
        # At a distance of 64 everything that shares a key is a pair.
        counts.append(len(similar_codes(CodeList(codes, np.arange(num, dtype=np.int32)), 64).first) / num)
    assert key_bits(2**17) == key_bits(2**14) + 3
    assert counts[1] == pytest.approx(counts[0], rel=0.2)


def test_audio_has_the_same_codes_at_any_volume_and_none_where_nothing_happens() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.1, 64_000) * np.repeat(random.uniform(0, 1, 40), 1_600)
    loud, soft = (audio_codes(log_mel(factor * noise).astype(np.float16)) for factor in (1.0, 0.05))
    assert len(loud.rows) >= 10
    np.testing.assert_array_equal(loud.rows, soft.rows)
    assert np.bitwise_count(loud.codes ^ soft.codes).mean() < 3
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(64_000) / 16_000)
    for nothing in (tone, np.zeros(64_000)):
        assert len(audio_codes(log_mel(nothing).astype(np.float16)).rows) == 0
    assert len(audio_codes(np.zeros((20, 128), np.float16)).rows) == 0


def test_the_code_of_a_mirrored_frame_follows_from_that_of_the_frame() -> None:
    spectra = np.random.default_rng(0).normal(size=(50, 8, 8))
    np.testing.assert_array_equal(frame_codes(mirrored(spectra)), frame_codes(spectra) ^ MIRROR)
