"""Two clips compared: whether their audio, or their frames, are the same recording, and at which offset.

An offset is the time of the second clip's start on the first clip's clock, in seconds.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.pipeline.duplicates.audio_codes import WINDOW_ROWS, AudioCodes
from cavsync.pipeline.duplicates.fingerprints import NUM_VALUES, ClipFingerprint
from cavsync.pipeline.duplicates.frame_codes import have_contrast, mirrored

# Bits of 64. Codes of different recordings differ in 32 +- 4; those of copies, at 24 to 96 kb/s, in 5 on average.
MAX_DISTANCE = 16
JITTER_ROWS = 2
MIN_ONSETS = 3
MIN_SIMILARITY = 0.35
# Evidence of audio: onsets that agree x their share x their closeness. The first beside frames that show the same, the second
# alone. Of clips with the same synthetic instrument in silence, 95 % of chance meetings are below 3.2, of copies 5 % below 4.
MIN_EVIDENCE, MIN_EVIDENCE_ALONE = 1.5, 5.0
MIN_IMAGE = 0.9
# Correlation of motion: where it is searched for over all offsets, and where the offset is known.
MIN_MOTION_FOUND, MIN_MOTION_AT = 0.6, 0.25
MIN_MOTION_LEVELS = 1.0  # of 256: root mean square, below which nothing moves
MIN_FRAMES = 5
OFFSET_STEP_S = 0.1


@dataclass(frozen=True)
class AudioMatch:
    offset_s: float
    evidence: float
    # Fraction of the onsets in the overlap that have one at the same time with a similar code.
    similarity: float


@dataclass(frozen=True)
class FrameMatch:
    """Frames at an offset, each with the nearest one in time of the other clip."""

    offset_s: float
    num_frames: int
    # Median cosine of the spectra.
    image: float
    # Correlation of what differs from the mean image of both clips: 0 for two clips of one scene. None where nothing moves.
    motion: float | None
    mirrored: bool


def compare_audio(one: ClipFingerprint, other: ClipFingerprint, min_overlap_s: float) -> AudioMatch | None:
    """The offset at which most onsets have similar codes; None where these are too few for the same recording."""
    distances = np.bitwise_count(one.audio.codes[:, None] ^ other.audio.codes[None])
    near = distances <= MAX_DISTANCE
    offsets = one.audio.rows[:, None] - other.audio.rows[None]
    near &= _overlap_s(offsets / MEL_ROWS_PER_S, one, other) >= min_overlap_s
    if np.count_nonzero(near) < MIN_ONSETS:
        return None
    closeness = (MAX_DISTANCE + 1.0 - distances)[near]
    found = offsets[near]
    votes = np.bincount(found - found.min(), closeness)
    best = int(np.convolve(votes, np.ones(2 * JITTER_ROWS + 1), "same").argmax() + found.min())
    agreeing = near & (np.abs(offsets - best) <= JITTER_ROWS)
    num_agreeing = min(agreeing.any(1).sum(), agreeing.any(0).sum())
    num_onsets = min(_num_within(one.audio, best, other), _num_within(other.audio, -best, one))
    similarity = min(1.0, num_agreeing / max(1, num_onsets))
    if num_agreeing < MIN_ONSETS or similarity < MIN_SIMILARITY:
        return None
    evidence = num_agreeing * similarity * (1 - distances[agreeing].mean() / (MAX_DISTANCE + 2))
    offset_s = float(offsets[agreeing].mean()) / MEL_ROWS_PER_S
    return AudioMatch(offset_s, float(evidence), float(similarity)) if evidence >= MIN_EVIDENCE else None


def frames_at(one: ClipFingerprint, other: ClipFingerprint, offset_s: float) -> FrameMatch | None:
    """The frames at a known offset, mirrored or not, whichever is more similar; None where none can be compared."""
    found = [
        _match(one, other, np.array([offset_s]), is_mirrored, min_frames=1) for is_mirrored in (False, True)
    ]
    return max((match for match in found if match), key=lambda match: match.image, default=None)


def compare_frames(
    one: ClipFingerprint, other: ClipFingerprint, is_mirrored: bool, min_overlap_s: float
) -> FrameMatch | None:
    """The offset at which the frames move alike, the other's mirrored or not. None where they are not the same recording.

    Frames that look alike are not enough: other clips of a scene have those too.
    """
    latest_s, earliest_s = one.duration_s - min_overlap_s, min_overlap_s - other.duration_s
    if latest_s < earliest_s:
        return None
    offsets_s = np.arange(earliest_s, latest_s + OFFSET_STEP_S / 2, OFFSET_STEP_S)
    match = _match(one, other, offsets_s, is_mirrored, min_frames=MIN_FRAMES)
    if match is None or match.motion is None or match.motion < MIN_MOTION_FOUND or match.image < MIN_IMAGE:
        return None
    return match


def same_image(match: FrameMatch) -> bool:
    """Whether frames at a known offset show the same, and move alike where they move."""
    return match.image >= MIN_IMAGE and (match.motion is None or match.motion >= MIN_MOTION_AT)


def overlap_s(one: ClipFingerprint, other: ClipFingerprint, offset_s: float) -> float:
    """Seconds that both clips have."""
    return float(_overlap_s(np.array(offset_s), one, other))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(frames,): of each of (frames, values) with the one at the same place."""
    each: np.ndarray = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return each


def _overlap_s(offsets_s: np.ndarray, one: ClipFingerprint, other: ClipFingerprint) -> np.ndarray:
    ends = np.minimum(one.duration_s, offsets_s + other.duration_s)
    shared_s: np.ndarray = np.maximum(0.0, ends - np.maximum(0.0, offsets_s))
    return shared_s


def _num_within(audio: AudioCodes, offset_rows: int, other: ClipFingerprint) -> int:
    """Onsets whose whole window lies in the other clip, which begins at row `offset_rows`."""
    start, stop = offset_rows, offset_rows + other.duration_s * MEL_ROWS_PER_S
    half = WINDOW_ROWS // 2
    return int(((audio.rows >= start + half) & (audio.rows <= stop - half)).sum())


@dataclass(frozen=True)
class _Frames:
    """The frames of a clip that show enough to be compared."""

    spectra: np.ndarray  # float32 (frames, 64)
    times_s: np.ndarray  # float32 (frames,)

    @classmethod
    def of(cls, clip: ClipFingerprint, is_mirrored: bool = False) -> "_Frames":
        spectra = clip.spectra.astype(np.float32)
        shown = have_contrast(spectra)
        flat = (mirrored(spectra) if is_mirrored else spectra)[shown].reshape(-1, NUM_VALUES)
        return cls(flat, clip.frame_pts_s[shown])


def _match(
    one: ClipFingerprint, other: ClipFingerprint, offsets_s: np.ndarray, is_mirrored: bool, min_frames: int
) -> FrameMatch | None:
    """The one of (offsets,) at which the frames move most alike, or look most alike where nothing moves."""
    a, b = _Frames.of(one), _Frames.of(other, is_mirrored)
    if not len(a.times_s) or not len(b.times_s):
        return None
    # (offsets, frames): the other's frame that is nearest in time, and whether it is near.
    apart_s = np.abs(a.times_s[None, :, None] - (b.times_s[None, None] + offsets_s[:, None, None]))
    nearest = apart_s.argmin(2)
    near = np.take_along_axis(apart_s, nearest[..., None], 2)[..., 0] <= _tolerance_s(one, other)
    enough = near.sum(1) >= min_frames
    if not enough.any():
        return None
    motion, levels = _motion(a.spectra, b.spectra, near, nearest)
    best = int(np.where(enough, motion, -np.inf).argmax())
    return FrameMatch(
        offset_s=float(offsets_s[best]),
        num_frames=int(near[best].sum()),
        image=float(np.median(cosines(a.spectra, b.spectra[nearest[best]])[near[best]])),
        motion=float(motion[best]) if levels[best] >= MIN_MOTION_LEVELS else None,
        mirrored=is_mirrored,
    )


def _motion(
    a: np.ndarray, b: np.ndarray, near: np.ndarray, nearest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of (frames, values) of two clips: the correlation of what moves, and the root mean square of what moves in the clip
    that moves less, both (offsets,). `near` and `nearest` are (offsets, frames)."""
    mean, other_mean = _means(a, b, near, nearest)
    moved, also_moved = a - mean, b - other_mean
    products = (moved @ also_moved.T)[np.arange(len(a)), nearest]  # (offsets, frames)
    energy = (near * np.square(moved).sum(1)).sum(1)
    also_energy = (near * np.square(also_moved).sum(1)[nearest]).sum(1)
    correlation = (near * products).sum(1) / np.sqrt(np.maximum(energy * also_energy, 1e-9))
    return correlation, np.sqrt(np.minimum(energy, also_energy) / np.maximum(near.sum(1), 1))


def _means(
    a: np.ndarray, b: np.ndarray, near: np.ndarray, nearest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(values,) each: what does not move, of (frames, values) of two clips.

    Where the offset is searched for, both have one mean: else, of many offsets, one would fit by chance. At a known one
    (`near` and `nearest` are (1, frames)) each has its own, so that other brightness or contrast is no motion.
    """
    if len(near) == 1:
        return a[near[0]].mean(0), b[nearest[0][near[0]]].mean(0)
    mean = (a.mean(0) + b.mean(0)) / 2
    return mean, mean


def _tolerance_s(one: ClipFingerprint, other: ClipFingerprint) -> float:
    """Half of the distance between frames of the clip that has them closer."""
    spacings = [clip.duration_s / max(1, len(clip.frame_pts_s)) for clip in (one, other)]
    return 0.53 * min(spacings)
