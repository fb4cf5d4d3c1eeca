"""The metrics that a study may fix: each is computed from one encoding of the clips of a split.

All are in % and higher is better. Axis words: N clips, F pairs of a frame and its audio segment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.dataset.sampling import spread
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.clips import ClipEmbeddings, embed_split
from cavsync.train.evaluation.heatmaps.kept_object import MASK_RATIO, MaskedClips
from cavsync.train.evaluation.retrieval.ranking import rank
from cavsync.train.evaluation.synchrony.clip import Matching, match_pairs
from cavsync.train.reporting.estimate import Estimate


@dataclass(frozen=True)
class EncodedSplit:
    """The embeddings of N clips; `times_s` and `starts` are (F,) a clip: when its frames are, where its segments begin."""

    embeddings: ClipEmbeddings
    times_s: Sequence[np.ndarray]
    starts: Sequence[np.ndarray]
    device: torch.device
    kept_object: Callable[[], float] = lambda: float("nan")
    """The fraction of sounding objects in the patches that the model ranks highest; NaN where nothing ranks them."""

    @property
    def num_clips(self) -> int:
        return len(self.embeddings.keys)


@dataclass(frozen=True)
class StudyMetric:
    """A number of an encoded split, with its chance level; NaN where it does not exist."""

    label: str
    about: str
    measure: Callable[[EncodedSplit], Estimate]


def encode_split(
    model: CavMaeSync,
    clips: ClipAllPairs,
    device: torch.device,
    max_clips: int | None,
    masked: MaskedClips | None = None,
) -> EncodedSplit:
    """Encodes the clips, or `max_clips` spread over them; the model keeps its mode. `masked` are the clips with their masks."""
    numbers = spread(len(clips), max_clips or len(clips)).tolist()
    store, was_training = clips.store, model.training
    try:
        embeddings = embed_split(model, clips, device, only={store.keys[number] for number in numbers})
    finally:
        model.train(was_training)
    times_s = [store[number].frame_pts_s() for number in numbers]
    starts = [
        store[number].window_starts(clips.window.rows, clips.config.frame_alignment) for number in numbers
    ]
    if masked is None or not model.config.num_global_tokens:
        return EncodedSplit(embeddings, times_s, starts, device)
    kept_object = partial(masked.kept_fraction, model, numbers, device)
    return EncodedSplit(embeddings, times_s, starts, device, kept_object)


def measure(names: Sequence[str], encoded: EncodedSplit) -> dict[str, Estimate]:
    """Name -> its value and chance level."""
    return {name: METRICS[name].measure(encoded) for name in names}


def _recall(k: int, *directions: str) -> Callable[[EncodedSplit], Estimate]:
    def figure(encoded: EncodedSplit) -> Estimate:
        ranks = _ranks(encoded, slice(None))
        hits = [ranks[direction] < k for direction in directions]
        return _percent(np.mean(hits), min(k, encoded.num_clips) / encoded.num_clips)

    return figure


def _one_moment(encoded: EncodedSplit) -> Estimate:
    """Frame i of each clip against segment i of all clips; the mean over i and both directions."""
    num_pairs = encoded.embeddings.audio.shape[1]
    by_pair = [_ranks(encoded, slice(pair, pair + 1)) for pair in range(num_pairs)]
    hits = [ranks < 1 for one in by_pair for ranks in one.values()]
    return _percent(np.mean(hits), 1 / encoded.num_clips)


def _ranks(encoded: EncodedSplit, pairs: slice) -> Mapping[str, np.ndarray]:
    """Direction -> (N,) ranks of the own clip by the mean similarity of these pairs, 0 is best."""
    audio, image = encoded.embeddings.audio[:, pairs], encoded.embeddings.image[:, pairs]
    ranks: Mapping[str, np.ndarray] = vars(
        rank(audio, image, "diagonal-mean", device=encoded.device).own_clip
    )
    return ranks


def _within(*sides: str) -> Callable[[EncodedSplit], Estimate]:
    """NaN for a model with one audio segment for the whole clip, which has nothing to choose from."""

    def figure(encoded: EncodedSplit) -> Estimate:
        embeddings = encoded.embeddings
        audio, image = embeddings.audio.float().numpy(), embeddings.image.float().numpy()
        matched = [
            match_pairs(*one) for one in zip(image, audio, encoded.times_s, encoded.starts, strict=True)
        ]
        found: list[Matching] = [getattr(one, side) for one in matched if one for side in sides]
        if not found:
            return Estimate(float("nan"))
        return _percent(np.mean([one.top1 for one in found]), np.mean([one.top1_chance for one in found]))

    return figure


def _kept_object(encoded: EncodedSplit) -> Estimate:
    return _percent(encoded.kept_object(), 1 - MASK_RATIO)


def _percent(fraction: float | np.floating, chance: float | np.floating) -> Estimate:
    return Estimate(100 * float(fraction), chance=100 * float(chance))


AUDIO, VIDEO = "audio_to_video", "video_to_audio"
METRICS: Mapping[str, StudyMetric] = MappingProxyType(
    {
        "retrieval-r1": StudyMetric(
            "retrieval R@1",
            "Whole clips: how often a clip's own partner is first among all, by the mean similarity of its frames with "
            "their own segments; the mean of both directions.",
            _recall(1, AUDIO, VIDEO),
        ),
        "audio-to-video-r1": StudyMetric("audio → video R@1", "Videos found by audio.", _recall(1, AUDIO)),
        "video-to-audio-r1": StudyMetric("video → audio R@1", "Audio found by video.", _recall(1, VIDEO)),
        "retrieval-r10": StudyMetric(
            "retrieval R@10", "The same among the first ten.", _recall(10, AUDIO, VIDEO)
        ),
        "one-moment-r1": StudyMetric(
            "one-moment R@1",
            "One frame and one segment of each clip: how often a clip's own partner is first among all clips; the mean of "
            "both directions over all moments.",
            _one_moment,
        ),
        "within-clip": StudyMetric(
            "within a clip",
            "How often a frame chooses its own segment among those of its clip, and a segment its own frame; the mean of "
            "both. Undefined where a model has one segment for the whole clip.",
            _within("frame_to_window", "window_to_frame"),
        ),
        "kept-object": StudyMetric(
            "sounding object kept",
            "Of the area of sounding objects in a frame, how much lies in the half of the patches to which the model's own global "
            "token attends most, as TG-DP's teacher ranks them. Undefined without a global token; needs the masks of the small world.",
            _kept_object,
        ),
    }
)
