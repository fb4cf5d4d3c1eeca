"""How well the audio and the frames of a clip belong together, by a trained model: the numbers of `cavsync data score`.

Axis words: F frames of a clip, each with its own audio segment; R reference clips; D embedding width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cavsync.train.embedding.sliding import AVClip, WindowEmbeddings, WindowEncoder
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.synchrony.clip import match_within
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.dataset import SplitClips
from cavsync.train.evaluation.synchrony.offsets import estimate_delay, offset_curve
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.reporting.coverage import Coverage

# A frame shows its sound where its own segment is more similar than this fraction of the reference clips' segments.
ON_SCREEN = 0.95
# Of fewer, the 95 % cannot be told from all.
MIN_REFERENCES = 20


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """One clip; a value that does not exist is None."""

    key: str
    similarity: float  # mean cosine of its frames and their own segments
    correspondence: float  # fraction of the reference clips whose audio is less similar to its frames
    # Fraction of its frames whose own segment is more similar than 95 % of the reference clips'.
    on_screen: float
    # Fraction of its frames whose own segment is the most similar of the clip's segments.
    within_clip: float | None
    delay_s: float | None  # how late its audio is
    delay_agreement: float | None  # how far its frames agree on that, 0 to 1


@dataclass(frozen=True)
class DatasetScores:
    """The scores of a split's clips, and of which clips there are none."""

    clips: list[ClipScores]
    coverage: Coverage
    num_references: int


def score_clips(
    task: SplitTask,
    config: SynchronyConfig,
    num_references: int,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> DatasetScores:
    """Scores every clip of the task's split that has sound and moves, against `num_references` of them by chance.

    Raises EvaluationError where they are fewer than MIN_REFERENCES + 1, or the model encodes whole clips at once.
    """
    encoder = config.window_encoder(task.checkpoint, task.data)
    clips = SplitClips(task.dataset, task.data, task.checkpoint.model.config.image_size)
    if len(clips) <= MIN_REFERENCES:
        raise EvaluationError(
            f"{task.data.named}: {clips.coverage.sentence}, and more than {MIN_REFERENCES} are "
            "needed, because each clip is compared with others' audio."
        )
    references = _references(clips, encoder, num_references, config.seed)
    scores = []
    for number, clip in enumerate(clips.read(), 1):
        scores.append(_scores(encoder.encode(clip), references, config))
        on_clip(number, len(clips))
    return DatasetScores(scores, clips.coverage, len(references.keys))


@dataclass(frozen=True)
class _References:
    keys: Sequence[str]
    segments: np.ndarray  # (R, F, D), the own segments of each clip's frames

    def similarities(self, embeddings: WindowEmbeddings) -> np.ndarray:
        """(R, F) cosines of a clip's frames with the segments at the same places of other clips."""
        others = self.segments[[key != embeddings.name for key in self.keys]]
        num_frames = min(others.shape[1], len(embeddings.frames))
        found: np.ndarray = np.einsum("rfd,fd->rf", others[:, :num_frames], embeddings.frames[:num_frames])
        return found


def _references(clips: SplitClips, encoder: WindowEncoder, number: int, seed: int) -> _References:
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(clips), min(number, len(clips)), replace=False)
    keys, segments = zip(
        *(_own_segments(clips[int(index)], encoder) for index in sorted(chosen)), strict=True
    )
    num_frames = min(map(len, segments))
    return _References(keys, np.stack([one[:num_frames] for one in segments]))


def _own_segments(clip: AVClip, encoder: WindowEncoder) -> tuple[str, np.ndarray]:
    embeddings = encoder.encode(clip)
    return clip.name, embeddings.windows[embeddings.own]


def _scores(embeddings: WindowEmbeddings, references: _References, config: SynchronyConfig) -> ClipScores:
    own = (embeddings.frames * embeddings.windows[embeddings.own]).sum(axis=1)  # (F,)
    others = references.similarities(embeddings)
    compared = own[: others.shape[1]]
    within = match_within(embeddings)
    delay = estimate_delay(offset_curve(embeddings, embeddings, config.offsets_s))
    return ClipScores(
        key=embeddings.name,
        similarity=float(own.mean()),
        correspondence=float((others.mean(axis=1) < compared.mean()).mean()),
        on_screen=float((np.quantile(others, ON_SCREEN, axis=0) < compared).mean()),
        within_clip=None if within is None else within.frame_to_window.top1,
        delay_s=None if delay is None else delay.delay_s,
        delay_agreement=None if delay is None else delay.agreement,
    )
