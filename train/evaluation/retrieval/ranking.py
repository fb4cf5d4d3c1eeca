"""The ranks of right answers in both directions, from one pass over the scores.

The (N, N) matrix of scores never exists: it comes in tiles, each of which counts for the queries in its rows and for
those in its columns. Ties count against the query, so a collapsed model, whose scores are all equal, gets nothing.
Axis words: N clips, F (frame, audio segment) pairs a clip, D embedding width, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cavsync.train.choices import Aggregation
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.retrieval.similarity import (
    CHUNK_CLIPS,
    UnitVectors,
    product,
    right_scores,
    room_for_pieces,
)
from cavsync.train.evaluation.statistics import TIE_TOLERANCE

OnTile = Callable[[], None]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class RetrievalRanks:
    """How many wrong candidates score as high as the right answer or higher, per query; (N,), 0 is best."""

    audio_to_video: np.ndarray
    video_to_audio: np.ndarray

    def of(self, queries: Sequence[int]) -> "RetrievalRanks":
        """The ranks of some queries, among the same candidates."""
        return RetrievalRanks(self.audio_to_video[queries], self.video_to_audio[queries])


@dataclass(frozen=True)
class Ranking:
    """The right answer is the query's own clip; or, `same_class`, the best one of any clip that shares a label."""

    own_clip: RetrievalRanks
    same_class: RetrievalRanks | None  # None where nothing is known about labels


def rank(
    audio: Tensor,
    image: Tensor,
    aggregation: Aggregation,
    classes: Tensor | None = None,
    device: torch.device = CPU,
    on_tile: OnTile = lambda: None,
    among: Sequence[int] | None = None,
) -> Ranking:
    """Ranks (N, F, D) embeddings; `classes` is (N, C), 1 where a clip has the class.

    Embeddings are used where they lie: what exists besides is some tiles. `among` are the indices, ascending, of the
    clips that are queries and candidates; the others are left out, and their ranks mean nothing.
    """
    if audio.shape != image.shape:
        raise EvaluationError(
            f"audio embeddings {tuple(audio.shape)} and image embeddings {tuple(image.shape)} differ in shape; "
            "both must be (clips, pairs, width)."
        )
    tiles = _Tiles(UnitVectors.of(audio, "audio"), UnitVectors.of(image, "image"), aggregation, device)
    own = tiles.right()
    own_clip, same_class = _Count(own, own), None
    if classes is not None:
        classes = classes.float().to(device)
        same_class = _Count(*_best_of_class(tiles, classes, own))
    clips = torch.arange(len(audio)) if among is None else torch.tensor(among)
    for rows, columns, scores in tiles.over(clips.to(device)):
        other_clip = rows[:, None] != columns
        own_clip.add(rows, columns, scores, other_clip)
        if classes is not None and same_class is not None:
            other_class = classes[rows] @ classes[columns].T == 0
            same_class.add(rows, columns, scores, other_clip & other_class)
        on_tile()
    return Ranking(own_clip.ranks(), same_class.ranks() if same_class else None)


def num_tiles(num_clips: int) -> int:
    """The number of times that `rank` calls `on_tile`."""
    return int(-(-num_clips // CHUNK_CLIPS)) ** 2


class _Tiles:
    """Scores of some clips with some others, computed on demand."""

    def __init__(
        self, audio: UnitVectors, image: UnitVectors, aggregation: Aggregation, device: torch.device
    ) -> None:
        self._audio, self._image, self._aggregation = audio, image, aggregation
        self._audio_room, self._image_room = (
            room_for_pieces(one.embeddings, device) for one in (audio, image)
        )

    def over(self, clips: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Indices of audio (rows), indices of images (columns) and their scores; together all pairs of `clips`."""
        for rows in torch.split(clips, CHUNK_CLIPS):
            audio = self._audio.take(rows, self._audio_room)
            for columns in torch.split(clips, CHUNK_CLIPS):
                image = self._image.take(columns, self._image_room)
                yield rows, columns, product(audio, image, self._aggregation)

    def right(self) -> Tensor:
        """(N,) scores of the right pairs."""
        chunks = torch.split(torch.arange(len(self._audio.lengths)), CHUNK_CLIPS)
        return torch.cat([self._right(chunk) for chunk in chunks])

    def _right(self, clips: Tensor) -> Tensor:
        audio = self._audio.take(clips, self._audio_room)
        image = self._image.take(clips, self._image_room)
        return right_scores(audio, image, self._aggregation)


class _Count:
    """Wrong candidates that reach the right answer's score, per query."""

    def __init__(self, of_audio: Tensor, of_image: Tensor) -> None:
        """The scores (N,) that the right answers of audio and of image queries have."""
        self._right = of_audio, of_image
        self._reached = [torch.zeros(len(of_audio), dtype=torch.int64, device=of_audio.device) for _ in "av"]

    def add(self, rows: Tensor, columns: Tensor, scores: Tensor, wrong: Tensor) -> None:
        of_audio, of_image = self._right
        self._reached[0][rows] += (wrong & (scores >= of_audio[rows, None] - TIE_TOLERANCE)).sum(1)
        self._reached[1][columns] += (wrong & (scores >= of_image[columns] - TIE_TOLERANCE)).sum(0)

    def ranks(self) -> RetrievalRanks:
        return RetrievalRanks(*(reached.cpu().numpy() for reached in self._reached))


def _best_of_class(tiles: _Tiles, classes: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) each: the best score of an audio query with an image that shares a label, and the other way round."""
    of_audio, of_image = own.clone(), own.clone()
    for members in classes.T:
        for rows, columns, scores in tiles.over(members.nonzero().flatten()):
            of_audio[rows] = torch.maximum(of_audio[rows], scores.amax(1))
            of_image[columns] = torch.maximum(of_image[columns], scores.amax(0))
    return of_audio, of_image
