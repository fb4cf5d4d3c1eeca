"""Whether frames or audio are like those of the calibration clips, by the nearest of their embeddings.

A bound that was read off some clips holds for videos like them. A video is measured by how similar its embeddings are to
the nearest of the clips', the median over its windows; each clip is measured the same way against the other clips. A
video that is lower than nearly all of the clips is unlike them, and nothing is known about how high its similarities
should be. Nearest neighbours need no assumption on how embeddings are distributed.
"""

from dataclasses import dataclass

import numpy as np

# Clips that are drawn at random, and windows of each, evenly spaced.
MAX_CLIPS, MAX_WINDOWS_PER_CLIP = 128, 8
SEED = 0
# Cosines of equal vectors differ by this much where they are summed in another order.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Familiarity:
    """How similar the frames, or the audio, of a video are to the nearest of the calibration clips'."""

    similarity: float
    bound: float
    """The similarity that all but `error_rate` of the clips reach."""
    error_rate: float

    @property
    def is_like_clips(self) -> bool:
        return self.similarity >= self.bound - ROUNDING

    @property
    def sentence(self) -> str:
        return (
            f"{self.similarity:.3f}, where all but {self.error_rate:.1%} of the clips reach {self.bound:.3f}"
        )


@dataclass(frozen=True)
class CalibrationEmbeddings:
    """Embeddings of one modality of the calibration clips, and how similar each clip is to the others."""

    vectors: np.ndarray  # (M, D) unit vectors
    of_clips: np.ndarray  # (C,) ascending

    @classmethod
    def of(cls, vectors: np.ndarray, origins: np.ndarray) -> "CalibrationEmbeddings":
        """Of (N, D) unit vectors; `origins` (N,) is the index of each one's clip. There are two clips or more."""
        names = np.unique(origins)
        drawn = np.random.default_rng(SEED).permutation(len(names))[:MAX_CLIPS]
        kept = np.concatenate([_spread(np.flatnonzero(origins == name)) for name in names[drawn]])
        vectors, origins = vectors[kept], origins[kept]
        similarity = vectors @ vectors.T
        similarity[origins[:, None] == origins] = -np.inf
        nearest = similarity.max(axis=1)  # (M,) of another clip
        medians = [float(np.median(nearest[origins == name])) for name in names[drawn]]
        return cls(vectors, np.sort(medians))

    def familiarity(self, vectors: np.ndarray, error_rate: float) -> Familiarity:
        """Of a video's (W, D) unit vectors, NaN where there is none; one or more is there.

        A video like the clips is below the bound with a probability of `error_rate` at most, or with what so few clips
        allow.
        """
        known = vectors[np.isfinite(vectors).all(axis=1)]
        rank = max(1, int(error_rate * (len(self.of_clips) + 1)))
        return Familiarity(
            similarity=float(np.median((known @ self.vectors.T).max(axis=1))),
            bound=float(self.of_clips[rank - 1]),
            error_rate=rank / (len(self.of_clips) + 1),
        )


def _spread(indices: np.ndarray) -> np.ndarray:
    chosen = np.linspace(0, len(indices) - 1, min(MAX_WINDOWS_PER_CLIP, len(indices))).round().astype(int)
    spread: np.ndarray = indices[chosen]
    return spread
