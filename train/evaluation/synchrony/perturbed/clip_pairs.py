"""Scores a clip's own audio and perturbed versions of it with its frames.

Axis words: F frames, D embedding width.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cavsync.train.embedding.sliding import AVClip, WindowEmbeddings, WindowEncoder
from cavsync.train.evaluation.synchrony.perturbed.pairs import ScoredPair
from cavsync.train.evaluation.synchrony.perturbed.perturbation import OFFSET, perturbations


def score_clip(
    encoder: WindowEncoder, clip: AVClip, embeddings: WindowEmbeddings, seed: int
) -> Iterator[ScoredPair]:
    """Every perturbation that leaves a window of audio for one frame or more; `embeddings` are those of the clip.

    Each frame keeps its own window, and a frame counts on both sides if all rows of that window hold audio after the
    perturbation: nothing is padded.
    """
    inside = embeddings.own_starts <= embeddings.last_start  # published alignment may reach into padding
    starts, frames = embeddings.own_starts[inside], embeddings.frames[inside]
    own = (frames * embeddings.windows[embeddings.own][inside]).sum(axis=1)  # (F,)
    for one in perturbations():
        mel, held = one.apply(clip.mel, clip.name, seed)
        complete = _complete(held, starts, encoder.window.rows)
        if not complete.any():
            continue
        distinct, window = np.unique(starts[complete], return_inverse=True)
        segments = encoder.encode_windows(replace(clip, mel=mel), distinct)
        perturbed = (frames[complete] * segments[window]).sum(axis=1)
        direction = ("delay" if one.amount > 0 else "advance") if one.negative == OFFSET else ""
        scores = float(own[complete].mean()), float(perturbed.mean())
        yield ScoredPair(clip.name, one.negative, one.label, direction, *scores)


def _complete(held: np.ndarray, starts: np.ndarray, num_rows: int) -> np.ndarray:
    """(F,) booleans: whether all of the rows [start, start + num_rows) are in (rows,) `held`."""
    counted = np.concatenate([[0], np.cumsum(held)])
    complete: np.ndarray = counted[starts + num_rows] - counted[starts] == num_rows
    return complete
