"""How well the audio of one clip fits the frames of another: scores of clips with clips, by matrix products.

Axis words: N clips, F (frame, audio segment) pairs a clip, D embedding width. Row i of a score matrix is the audio of clip
i, column j the image side of clip j; the diagonal holds the right pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from cavsync.train.choices import Aggregation
from cavsync.train.errors import EvaluationError

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
# Scores of pairs with pairs that exist at a time: 16 million float32 are 64 MB.
MAX_BLOCK_SCORES = 2**24
# Clips that are processed at a time where the result does not depend on it.
CHUNK_CLIPS = 512


def similarity(audio: Tensor, image: Tensor, aggregation: Aggregation) -> Tensor:
    """The (N, M) scores of every clip's audio (rows) with every clip's frames (columns), float32.

    `audio` is (N, F, D) and `image` (M, F, D); they need not be unit vectors.
    """
    unit_audio, unit_image = UnitVectors.of(audio, "audio"), UnitVectors.of(image, "image")
    return product(unit_audio.all(), unit_image.all(), aggregation)


def product(audio: Tensor, image: Tensor, aggregation: Aggregation) -> Tensor:
    """The (N, M) `similarity` of unit vectors (N, F, D) and (M, F, D)."""
    num_pairs = audio.shape[1]
    match aggregation:
        case "diagonal-mean":  # the mean of F products is one product of the concatenated vectors
            return audio.flatten(1) @ image.flatten(1).T / num_pairs
        case "mean":
            return audio.mean(1) @ image.mean(1).T
        case "diagonal-max":
            per_pair = (audio[:, k] @ image[:, k].T for k in range(num_pairs))
            best = next(per_pair)
            for scores in per_pair:
                torch.maximum(best, scores, out=best)
            return best
        case "max":
            return _max_over_pairs(audio, image)
    raise _unknown(aggregation)


def right_scores(audio: Tensor, image: Tensor, aggregation: Aggregation) -> Tensor:
    """(N,) scores of the right pairs of (N, F, D) unit vectors: the diagonal of `product`, up to rounding."""
    blocks = torch.bmm(audio, image.transpose(1, 2))  # (N, F, F)
    match aggregation:
        case "diagonal-mean":
            return blocks.diagonal(dim1=1, dim2=2).mean(1)
        case "diagonal-max":
            return blocks.diagonal(dim1=1, dim2=2).amax(1)
        case "mean":
            return blocks.mean((1, 2))
        case "max":
            return blocks.amax((1, 2))
    raise _unknown(aggregation)


@dataclass(frozen=True)
class UnitVectors:
    """Embeddings (N, F, D) of any float type, left as they are: pieces are scaled as they are taken."""

    embeddings: Tensor
    lengths: Tensor  # (N, F) float32

    @classmethod
    def of(cls, embeddings: Tensor, name: str, keys: Sequence[str] = ()) -> "UnitVectors":
        """Raises EvaluationError where one has no direction; the message names its clip, of `keys` (N)."""
        lengths = torch.empty(embeddings.shape[:2], device=embeddings.device)
        room = room_for_pieces(embeddings, embeddings.device)
        pieces = zip(torch.split(embeddings, CHUNK_CLIPS), torch.split(lengths, CHUNK_CLIPS), strict=True)
        for piece, of_piece in pieces:
            torch.linalg.vector_norm(room[: len(piece)].copy_(piece), dim=-1, out=of_piece)
        _require_directions(lengths, name, keys)
        return cls(embeddings, lengths)

    def all(self) -> Tensor:
        """(N, F, D) float32 at length 1."""
        return self.embeddings.float() / self.lengths.unsqueeze(-1)

    def take(self, clips: Tensor, room: Tensor) -> Tensor:
        """(n, F, D) of the clips with these (n,) ascending indices, at length 1; a part of `room`, into which it is written."""
        first, stop = int(clips[0]), int(clips[-1]) + 1
        # Neighbours need no copy before the one that is scaled.
        chosen = slice(first, stop) if stop - first == len(clips) else clips.to(self.embeddings.device)
        embeddings, lengths = (one[chosen].to(room.device) for one in (self.embeddings, self.lengths))
        return room[: len(clips)].copy_(embeddings).div_(lengths.unsqueeze(-1))


def room_for_pieces(embeddings: Tensor, device: torch.device) -> Tensor:
    """(CHUNK_CLIPS, F, D) float32, for copies of so many clips of (N, F, D) embeddings at a time.

    Pieces of tens of MB that come and go leave holes in the C library's heap, which add up to another copy of all.
    """
    return torch.empty(min(CHUNK_CLIPS, len(embeddings)), *embeddings.shape[1:], device=device)


def _require_directions(lengths: Tensor, name: str, keys: Sequence[str]) -> None:
    for broken, what in ((~torch.isfinite(lengths), "hold NaN or infinity"), (lengths == 0, "are all zeros")):
        clips = broken.any(1).nonzero().flatten().tolist()
        if clips:
            first = keys[clips[0]] if keys else f"number {clips[0]}"
            raise EvaluationError(
                f"{name} embeddings {what} in {len(clips)} clips (first: {first}); ranks over them mean nothing. "
                "Look at the model and at these clips."
            )


def _max_over_pairs(audio: Tensor, image: Tensor) -> Tensor:
    num_clips, num_pairs, width = image.shape
    candidates = image.reshape(-1, width).T
    queries_per_block = max(1, MAX_BLOCK_SCORES // (num_clips * num_pairs**2))
    blocks: list[Tensor] = [
        (block.reshape(-1, width) @ candidates)
        .reshape(len(block), num_pairs, num_clips, num_pairs)
        .amax(dim=(1, 3))
        for block in torch.split(audio, queries_per_block)
    ]
    return torch.cat(blocks)


def _unknown(aggregation: str) -> EvaluationError:
    return EvaluationError(f"unknown aggregation {aggregation!r}; one of {', '.join(AGGREGATIONS)}.")
