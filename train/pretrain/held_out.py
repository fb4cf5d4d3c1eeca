"""A look at clips that are not trained on: does a sound find its picture, and do embeddings spread out?"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import ModelConfig
from cavsync.model.reconstruction import Inpainting, inpaint
from cavsync.pipeline.dataset.sampling import spread
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import fit, normalise_images
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.engine.config import MonitorConfig
from cavsync.train.evaluation.retrieval.recall import retrieve


@dataclass(frozen=True, kw_only=True)
class ValidationMetrics:
    """What one look found; recalls in [0, 1]."""

    num_clips: int
    r1_sound_to_video: float
    r1_video_to_sound: float
    effective_rank_audio: float
    effective_rank_image: float


class HeldOutClips:
    """Up to `watch.max_clips` clips of a split, spread over it."""

    def __init__(self, data: DataConfig, model: ModelConfig, watch: MonitorConfig) -> None:
        plain = replace(data, split=watch.split, pairing="matched")
        self.clips, self.watch = ClipAllPairs(plain, model), watch
        self.numbers = spread(len(self.clips), watch.max_clips)

    def look(self, model: CavMaeSync, device: torch.device) -> ValidationMetrics:
        """Scores `model`, which is in eval mode, without gradients."""
        audio, image = [], []
        for number in self.numbers:
            windows, pictures = self.pairs(int(number), self.watch.num_frames)
            audio.append(model.encode_audio(windows.to(device)).global_token.float().cpu())
            image.append(model.encode_image(normalise_images(pictures.to(device))).global_token.float().cpu())
        heard, seen = torch.stack(audio), torch.stack(image)
        found = retrieve(heard, seen, "diagonal-mean")
        return ValidationMetrics(
            num_clips=len(heard),
            r1_sound_to_video=found.audio_to_video.recalls[0].percent / 100,
            r1_video_to_sound=found.video_to_audio.recalls[0].percent / 100,
            effective_rank_audio=effective_rank(heard.flatten(0, 1)),
            effective_rank_image=effective_rank(seen.flatten(0, 1)),
        )

    def reconstruct(self, model: CavMaeSync, device: torch.device) -> "Reconstructions":
        """The first clips masked and filled in, with the same masks at every look."""
        pairs = [self.pairs(int(number), 1) for number in self.numbers[: self.watch.num_pictures]]
        windows, pictures = (torch.cat(part) for part in zip(*pairs, strict=True))
        draw, config = torch.Generator().manual_seed(0), model.config
        noise = [
            torch.rand(len(windows), count, generator=draw).to(device)
            for count in (config.num_audio_patches, config.num_image_patches)
        ]
        image = normalise_images(pictures).to(device)
        filled = inpaint(model, windows.to(device), image, *noise)
        return Reconstructions(windows, image.cpu(), filled)

    def pairs(self, clip: int, count: int) -> tuple[Tensor, Tensor]:
        """`count` frames of a clip, spread over it: windows (n, rows, mels), pictures uint8 (n, side, side, 3)."""
        store, rows = self.clips.store, self.clips.window.rows
        frames = spread(store.num_frames(clip), count)
        starts = store.window_starts(clip, rows, self.clips.config.alignment)[frames]
        mels = [store.mel_rows(clip, int(start), int(start) + rows) for start in starts]
        pictures = [fit(store.frame(clip, int(frame)), self.clips.side) for frame in frames]
        return torch.stack([self.clips.window.normalised(mel, 0) for mel in mels]), torch.stack(pictures)


@dataclass(frozen=True)
class Reconstructions:
    """Inputs (clips, ...) as the model takes them, and what it makes of their masked versions."""

    audio: Tensor
    image: Tensor
    filled: Inpainting


def effective_rank(embeddings: Tensor) -> float:
    """How many directions (N, D) embeddings use: exp of the entropy of their normalised singular values.

    Between 1, all on one line (a collapsed model), and D. Vectors are scaled to length 1 first, as they are compared.
    """
    values = torch.linalg.svdvals(torch.nn.functional.normalize(embeddings.double(), dim=-1))
    fractions = values / values.sum()
    return float(torch.special.entr(fractions).sum().exp())
