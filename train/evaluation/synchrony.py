"""Which of a clip's own windows belongs to a frame: matching inside one clip.

Axis words: N clips, F (frame, window) pairs a clip, D embedding width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cavsync.train.evaluation.retrieval import TIE_TOLERANCE, unit_vectors


@dataclass(frozen=True)
class WithinClip:
    """Matching of F frames with F windows of the same clip, in %."""

    frame_to_window: float
    window_to_frame: float
    chance: float
    chosen_window: np.ndarray  # (N, F) the window that each frame chose


def match_within_clips(audio: Tensor, image: Tensor) -> WithinClip:
    """Scores (N, F, D) embeddings; a tie with a wrong partner is a miss."""
    audio, image = unit_vectors(audio, "audio"), unit_vectors(image, "image")
    scores = torch.einsum("nfd,nwd->nfw", image, audio)
    return WithinClip(
        frame_to_window=_top1_percent(scores),
        window_to_frame=_top1_percent(scores.transpose(1, 2)),
        chance=100 / scores.shape[1],
        chosen_window=scores.argmax(2).cpu().numpy(),
    )


def _top1_percent(scores: Tensor) -> float:
    """Share of rows of (N, F, F) scores whose diagonal entry beats every other, in %."""
    right = scores.diagonal(dim1=1, dim2=2).unsqueeze(2)
    num_as_high = (scores >= right - TIE_TOLERANCE).sum(2)
    return 100 * float((num_as_high == 1).float().mean())
