"""Embeddings of every clip of a split: one for each frame and one for each frame's audio segment."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from cavsync.model.encoder import Encoder
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.encode import unit_frames, unit_segments
from cavsync.train.engine.config import Precision
from cavsync.train.errors import EvaluationError


@dataclass(frozen=True)
class ClipEmbeddings:
    """N clips of F pairs of a frame and its audio segment.

    Half precision moves a cosine by some 1e-5, and 17,000 clips of 16 pairs take 0.8 GiB.
    """

    keys: list[str]
    audio: Tensor  # (N, F, D) unit vectors, float16, on the CPU
    image: Tensor  # (N, F, D)

    def of(self, clips: Sequence[int]) -> "ClipEmbeddings":
        """Those of the clips with these indices."""
        chosen = torch.tensor(clips)
        return ClipEmbeddings([self.keys[clip] for clip in clips], self.audio[chosen], self.image[chosen])


def embed_split(
    model: Encoder,
    clips: ClipAllPairs,
    device: torch.device,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
    only: Collection[str] | None = None,
    precision: Precision = "float32",
) -> ClipEmbeddings:
    """Embeds all clips, or those of the keys `only`; each is decoded and encoded once.

    They come in shard order.
    """
    keys = clips.store.keys
    wanted = [number for number, key in enumerate(keys) if only is None or key in only]
    num_pairs = _pairs_per_clip(clips, wanted)
    model = model.to(device).eval()
    # One array each, filled clip by clip: joining pieces at the end would hold everything twice.
    shape = len(wanted), num_pairs, model.config.embed_dim
    audio, image = (torch.empty(shape, dtype=torch.float16) for _ in range(2))
    # A batch is one clip: its F pairs fill the device, and nothing depends on a batch size.
    loader = DataLoader(Subset(clips, wanted), batch_size=None, num_workers=clips.config.num_workers)
    for number, item in enumerate(loader):
        # Frames near a clip's ends share a window; each is encoded once.
        windows, window_of = torch.unique(item["audio"].to(device), dim=0, return_inverse=True)
        what = f"the audio of {item['key']}"
        segments = unit_segments(model, windows, device, what, precision=precision)
        audio[number] = segments[window_of.cpu()]
        image[number] = unit_frames(model, item["image"], device, f"the frames of {item['key']}", precision)
        on_clip(number + 1, len(wanted))
    return ClipEmbeddings([keys[clip] for clip in wanted], audio, image)


def _pairs_per_clip(clips: ClipAllPairs, wanted: Sequence[int]) -> int:
    counts = {clips.store[clip].num_frames for clip in wanted}
    if len(counts) != 1:
        found = (
            f"clips of {sorted(counts)} frames; prepare it with one count" if counts else "none of the clips"
        )
        raise EvaluationError(f"{clips.config.one_path} holds {found}.")
    return counts.pop()
