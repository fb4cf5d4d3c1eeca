"""At which rank each right answer lands, in both directions, from one pass over the scores.

The (N, N) matrix never exists: it comes in tiles, each of which counts for the queries in its rows and for those in
its columns. Ties count against the query, so a collapsed model, whose scores are all equal, gets nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.choices import Aggregation
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
class Ranks:
    """How many wrong candidates score as high as the right answer or higher, per query; (N,), 0 is best."""

    audio_to_video: np.ndarray
    video_to_audio: np.ndarray

    def of(self, queries: Sequence[int]) -> "Ranks":
        """Those of some queries, among the same candidates."""
        return Ranks(self.audio_to_video[queries], self.video_to_audio[queries])


@dataclass(frozen=True)
class Ranking:
    """The right answer is the query's own clip; or, `same_class`, the best one of any clip that shares a label."""

    own_clip: Ranks
    same_class: Ranks | None  # None where nothing is known about labels


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

    Embeddings are used where they lie: what exists besides is some tiles. `among` are the numbers, ascending, of the
    clips that are queries and candidates; the others are not there, and their ranks mean nothing.
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
    """How often `rank` calls `on_tile`."""
    return int(-(-num_clips // CHUNK_CLIPS)) ** 2


class _Tiles:
    """Scores of some clips with some others, as they are wanted."""

    def __init__(
        self, audio: UnitVectors, image: UnitVectors, aggregation: Aggregation, device: torch.device
    ) -> None:
        self._audio, self._image, self._aggregation = audio, image, aggregation
        self._heard, self._seen = (room_for_pieces(one.embeddings, device) for one in (audio, image))

    def over(self, clips: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Numbers of the sounds, numbers of the pictures, and their scores; together all pairs of `clips`."""
        for rows in torch.split(clips, CHUNK_CLIPS):
            heard = self._audio.take(rows, self._heard)
            for columns in torch.split(clips, CHUNK_CLIPS):
                seen = self._image.take(columns, self._seen)
                yield rows, columns, product(heard, seen, self._aggregation)

    def right(self) -> Tensor:
        """(N,) scores of the right pairs."""
        chunks = torch.split(torch.arange(len(self._audio.lengths)), CHUNK_CLIPS)
        return torch.cat([self._right(chunk) for chunk in chunks])

    def _right(self, clips: Tensor) -> Tensor:
        heard, seen = self._audio.take(clips, self._heard), self._image.take(clips, self._seen)
        return right_scores(heard, seen, self._aggregation)


class _Count:
    """Wrong candidates that reach the right answer's score, per query."""

    def __init__(self, of_sounds: Tensor, of_pictures: Tensor) -> None:
        """The scores (N,) that the right answers of sounds and of pictures have."""
        self._right = of_sounds, of_pictures
        self._reached = [
            torch.zeros(len(of_sounds), dtype=torch.int64, device=of_sounds.device) for _ in "av"
        ]

    def add(self, rows: Tensor, columns: Tensor, scores: Tensor, wrong: Tensor) -> None:
        of_sounds, of_pictures = self._right
        self._reached[0][rows] += (wrong & (scores >= of_sounds[rows, None] - TIE_TOLERANCE)).sum(1)
        self._reached[1][columns] += (wrong & (scores >= of_pictures[columns] - TIE_TOLERANCE)).sum(0)

    def ranks(self) -> Ranks:
        return Ranks(*(reached.cpu().numpy() for reached in self._reached))


def _best_of_class(tiles: _Tiles, classes: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) each: the best score of a sound with a picture that shares a label, and of a picture with a sound."""
    of_sounds, of_pictures = own.clone(), own.clone()
    for members in classes.T:
        for rows, columns, scores in tiles.over(members.nonzero().flatten()):
            of_sounds[rows] = torch.maximum(of_sounds[rows], scores.amax(1))
            of_pictures[columns] = torch.maximum(of_pictures[columns], scores.amax(0))
    return of_sounds, of_pictures
