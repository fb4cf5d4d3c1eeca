"""The search: which clips may be the same recording, by their codes, and which are, by comparing them whole."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from cavsync.pipeline.duplicates.code_index import CodeList, similar_codes
from cavsync.pipeline.duplicates.comparison import (
    MIN_EVIDENCE_ALONE,
    compare_audio,
    compare_frames,
    cosines,
    frames_at,
    overlap_s,
    same_image,
)
from cavsync.pipeline.duplicates.fingerprints import NUM_VALUES, ClipFingerprint, Fingerprints, joined
from cavsync.pipeline.duplicates.frame_codes import MIRROR, frame_codes, have_contrast, mirrored
from cavsync.pipeline.duplicates.pairs import DuplicatePair

# Bits of 64. Fewer than when clips are compared: codes that meet in the index agree in a key by design.
MAX_AUDIO_DISTANCE, MAX_FRAME_DISTANCE = 10, 8
MIN_COSINE = 0.9
COSINES_AT_ONCE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What counts as a pair."""

    min_overlap_s: float = 2.0
    num_key_bits: int | None = None  # of the index; None: by the number of codes


@dataclass(frozen=True)
class SearchResult:
    pairs: list[DuplicatePair]
    num_compared: int  # pairs of clips that were compared whole
    num_limited: int  # codes that so many clips share that they met only the nearest ones


@dataclass(frozen=True)
class _Candidates:
    """Pairs of clips; the frames of the second are compared mirrored where it says so."""

    pairs: np.ndarray  # int64 (pairs, 3): clip, clip, 1 where mirrored
    num_limited: int


def find_pairs(
    clips: Fingerprints,
    others: Fingerprints | None = None,
    config: SearchConfig | None = None,
    on_pair: Callable[[int, int], None] = lambda done, total: None,
) -> SearchResult:
    """Pairs among the clips, or of a clip and one of the others; `on_pair` gets (compared, all)."""
    config = config or SearchConfig()
    every = clips if others is None else joined([clips, others])
    sides = None if others is None else (np.arange(len(every)) >= len(clips)).astype(np.int8)
    by_audio = _by_audio(every, sides, config)
    by_frames = _by_frames(every, sides, config)
    total = len(by_audio.pairs) + len(by_frames.pairs)
    found: dict[tuple[int, int], DuplicatePair] = {}
    on_pair(0, total)
    # Audio first: of a pair that both find, it says whether the frames match too.
    candidates = chain.from_iterable(part.pairs.tolist() for part in (by_audio, by_frames))
    for done, (one, other, is_mirrored) in enumerate(candidates, 1):
        if (one, other) not in found:
            clip, other_clip = every.clip(one), every.clip(other)
            if done <= len(by_audio.pairs):
                pair = _pair_by_audio(clip, other_clip, config.min_overlap_s)
            else:
                pair = _pair_by_frames(clip, other_clip, bool(is_mirrored), config.min_overlap_s)
            if pair is not None:
                found[one, other] = pair
        on_pair(done, total)
    pairs = [found[numbers] for numbers in sorted(found)]
    return SearchResult(pairs, total, by_audio.num_limited + by_frames.num_limited)


def _by_audio(clips: Fingerprints, sides: np.ndarray | None, config: SearchConfig) -> _Candidates:
    owners = clips.owners_of_onsets()
    listed = CodeList(clips.onset_codes, owners, None if sides is None else sides[owners])
    met = similar_codes(listed, MAX_AUDIO_DISTANCE, config.num_key_bits)
    return _Candidates(_distinct(owners[met.first], owners[met.second]), met.num_limited)


def _by_frames(clips: Fingerprints, sides: np.ndarray | None, config: SearchConfig) -> _Candidates:
    shown = np.flatnonzero(have_contrast(clips.spectra))
    codes = frame_codes(clips.spectra[shown])
    owners = np.tile(clips.owners_of_frames()[shown], 2)
    listed = CodeList(
        np.concatenate([codes, codes ^ MIRROR]), owners, None if sides is None else sides[owners]
    )
    met = similar_codes(listed, MAX_FRAME_DISTANCE, config.num_key_bits)
    once = met.first < len(shown)  # two mirrored ones are similar where the two are
    first, second = met.first[once], met.second[once]
    is_mirrored = second >= len(shown)
    frames = np.tile(shown, 2)
    alike = np.zeros(len(first), bool)
    for start in range(0, len(first), COSINES_AT_ONCE):
        part = slice(start, start + COSINES_AT_ONCE)
        alike[part] = _are_alike(clips.spectra, frames[first[part]], frames[second[part]], is_mirrored[part])
    pairs = _distinct(owners[first[alike]], owners[second[alike]], is_mirrored[alike])
    return _Candidates(pairs, met.num_limited)


def _are_alike(
    spectra: np.ndarray, first: np.ndarray, second: np.ndarray, is_mirrored: np.ndarray
) -> np.ndarray:
    """bool (pairs,): whether the (frames, 8, 8) spectra with those numbers are, the second one mirrored where it says so."""
    ours, theirs = spectra[first].astype(np.float32), spectra[second].astype(np.float32)
    theirs[is_mirrored] = mirrored(theirs[is_mirrored])
    return cosines(ours.reshape(-1, NUM_VALUES), theirs.reshape(-1, NUM_VALUES)) >= MIN_COSINE


def _distinct(first: np.ndarray, second: np.ndarray, is_mirrored: np.ndarray | None = None) -> np.ndarray:
    """int64 (pairs, 3): each pair of clips once, the smaller number first. To mirror either clip is the same."""
    flags = np.zeros(len(first), np.int64) if is_mirrored is None else is_mirrored.astype(np.int64)
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
    numbers = np.unique((low << 32) | (high << 1) | flags)
    return np.stack([numbers >> 32, (numbers & 0xFFFFFFFF) >> 1, numbers & 1], axis=1)


def _pair_by_audio(
    one: ClipFingerprint, other: ClipFingerprint, min_overlap_s: float
) -> DuplicatePair | None:
    """A pair whose audio is the same; its frames, at the same offset, may be too."""
    audio = compare_audio(one, other, min_overlap_s)
    if audio is None:
        return None
    frames = frames_at(one, other, audio.offset_s)
    is_same = frames is not None and same_image(frames)
    if not is_same and audio.evidence < MIN_EVIDENCE_ALONE:
        return None
    return DuplicatePair(
        key=one.key,
        other=other.key,
        split=one.split,
        other_split=other.split,
        matched="both" if is_same else "audio",
        offset_s=audio.offset_s,
        overlap_s=overlap_s(one, other, audio.offset_s),
        mirrored=is_same and frames is not None and frames.mirrored,
        audio_similarity=audio.similarity,
        frame_similarity=frames.image if frames else None,
    )


def _pair_by_frames(
    one: ClipFingerprint, other: ClipFingerprint, is_mirrored: bool, min_overlap_s: float
) -> DuplicatePair | None:
    """A pair whose frames are the same and whose audio is not, or has nothing to compare."""
    frames = compare_frames(one, other, is_mirrored, min_overlap_s)
    if frames is None:
        return None
    return DuplicatePair(
        key=one.key,
        other=other.key,
        split=one.split,
        other_split=other.split,
        matched="frames",
        offset_s=frames.offset_s,
        overlap_s=overlap_s(one, other, frames.offset_s),
        mirrored=is_mirrored,
        audio_similarity=None,
        frame_similarity=frames.image,
    )
