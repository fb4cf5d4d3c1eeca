"""Every clip of a split as vectors: one for each frame and one for each frame's window of sound."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cavsync.model.encoder import Encoder
from cavsync.train.config import DataConfig
from cavsync.train.data import ClipAllPairs, normalise_images
from cavsync.train.evaluation.retrieval import EvaluationError


@dataclass(frozen=True)
class ClipEmbeddings:
    """N clips of F (frame, window) pairs, in shard order; not unit vectors."""

    keys: list[str]
    audio: Tensor  # (N, F, D) float32, on the CPU
    image: Tensor  # (N, F, D)


@torch.inference_mode()
def embed_split(
    model: Encoder,
    data: DataConfig,
    device: torch.device,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> ClipEmbeddings:
    """Embeds every clip of `data.split`; each clip is decoded and encoded once for both directions."""
    clips = ClipAllPairs(data, model.config)
    counts = {clips.store.num_frames(clip) for clip in range(len(clips))}
    if len(counts) > 1:
        raise EvaluationError(
            f"{data.path} holds clips of {sorted(counts)} frames; prepare it with one count."
        )
    model = model.to(device).eval()
    audio, image = [], []
    # A batch is one clip: its F pairs fill the device, and nothing depends on a batch size.
    for number, item in enumerate(DataLoader(clips, batch_size=None, num_workers=data.num_workers)):
        audio.append(_embed_windows(model, item["audio"].to(device)).cpu())
        pictures = normalise_images(item["image"].to(device))
        image.append(model.encode_image(pictures).global_token.float().cpu())
        on_clip(number + 1, len(clips))
    return ClipEmbeddings(clips.store.keys, torch.stack(audio), torch.stack(image))


def _embed_windows(model: Encoder, windows: Tensor) -> Tensor:
    """(F, rows, mels) -> (F, D). Frames near a clip's ends share a window; each is encoded once."""
    distinct, place = torch.unique(windows, dim=0, return_inverse=True)
    return model.encode_audio(distinct).global_token.float()[place]
