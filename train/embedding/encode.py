"""Frames and audio segments to unit vectors: the one place where a model embeds what is stored, compared or scored."""

from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cavsync.model.encoder import Encoder
from cavsync.train.data.images import normalise_images
from cavsync.train.engine.config import Precision
from cavsync.train.engine.device import autocast
from cavsync.train.errors import EvaluationError

BATCH_SIZE = 64

OnItem = Callable[[int], None]  # how many are encoded


def unit_frames(
    model: Encoder,
    frames: Iterable[Tensor],
    device: torch.device,
    what: str = "frames",
    precision: Precision = "float32",
) -> Tensor:
    """(N, D) float32 unit vectors, on the CPU, of N uint8 (side, side, 3) frames.

    `what` names them in the EvaluationError that a NaN or an infinite value raises; `precision` is that of the products.
    """

    def encode(batch: Tensor) -> Tensor:
        return model.image_embedding(normalise_images(batch))

    return _unit_vectors(encode, frames, device, precision, f"embeddings of {what}")


def unit_segments(
    model: Encoder,
    segments: Iterable[Tensor],
    device: torch.device,
    what: str = "audio segments",
    on_segment: OnItem = lambda done: None,
    precision: Precision = "float32",
) -> Tensor:
    """(N, D) float32 unit vectors, on the CPU, of N normalised float32 (rows, mels) audio segments."""
    what = f"embeddings of {what}"
    return _unit_vectors(model.audio_embedding, segments, device, precision, what, on_segment)


def require_finite(values: Tensor, what: str) -> None:
    """Raises EvaluationError where an embedding, or what was made of it, holds NaN or infinity; of any shape."""
    broken = int((~torch.isfinite(values)).sum())
    if broken:
        raise EvaluationError(
            f"{what}: {broken} of {values.numel()} values are NaN or infinite, and no score can be made of them. "
            "Look at the checkpoint: did its training diverge?"
        )


def _unit_vectors(
    encode: Callable[[Tensor], Tensor],
    items: Iterable[Tensor],
    device: torch.device,
    precision: Precision,
    what: str,
    on_item: OnItem = lambda done: None,
) -> Tensor:
    """Items are taken as they are needed, so that they need not all fit into memory."""
    remaining, parts, done = iter(items), [], 0
    with torch.inference_mode():
        while batch := list(islice(remaining, BATCH_SIZE)):
            with autocast(device, precision):
                encoded = encode(torch.stack(batch).to(device))
            parts.append(encoded.float())
            done += len(batch)
            on_item(done)
        vectors = normalize(torch.cat(parts), dim=-1).cpu()
    require_finite(vectors, what)
    return vectors
