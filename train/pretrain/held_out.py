"""Validation on held-out clips: retrieval between audio and video, and the rank of the embeddings."""

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import ModelConfig
from cavsync.model.reconstruction import Inpainting, inpaint
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.sampling import spread
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import fit, normalise_images
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.encode import unit_frames, unit_segments
from cavsync.train.evaluation.retrieval.metrics import retrieve
from cavsync.train.pretrain.config import PretrainMonitorConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HeldOutScores:
    """Recalls in [0, 1] and effective ranks of held-out clips."""

    num_clips: int
    r1_audio_to_video: float
    r1_video_to_audio: float
    effective_rank_audio: float
    effective_rank_image: float


class HeldOutClips:
    """Up to `monitor.max_clips` clips of a split, spread over it."""

    def __init__(self, data: DataConfig, model: ModelConfig, monitor: PretrainMonitorConfig) -> None:
        plain = replace(data, split=monitor.split, pairing="matched", weights=None)
        self.clips, self.monitor = ClipAllPairs(plain, model, _with_split(plain)), monitor
        self.numbers = spread(len(self.clips), monitor.max_clips)

    def score(self, model: CavMaeSync, device: torch.device) -> HeldOutScores:
        """Scores `model`, which is in eval mode, without gradients."""
        audio, image = [], []
        for number in self.numbers:
            windows, frames = self.pairs(int(number), self.monitor.num_frames)
            audio.append(unit_segments(model, windows, device, "the audio of held-out clips"))
            image.append(unit_frames(model, frames, device, "the frames of held-out clips"))
        all_audio, all_images = torch.stack(audio), torch.stack(image)
        found = retrieve(all_audio, all_images, "diagonal-mean")
        return HeldOutScores(
            num_clips=len(all_audio),
            r1_audio_to_video=found.audio_to_video.recalls[1].value / 100,
            r1_video_to_audio=found.video_to_audio.recalls[1].value / 100,
            effective_rank_audio=effective_rank(all_audio.flatten(0, 1)),
            effective_rank_image=effective_rank(all_images.flatten(0, 1)),
        )

    def reconstruct(self, model: CavMaeSync, device: torch.device) -> "Reconstructions":
        """The first clips, masked and reconstructed, with the same masks at every validation."""
        pairs = [self.pairs(int(number), 1) for number in self.numbers[: self.monitor.num_images]]
        windows, frames = (torch.cat(part) for part in zip(*pairs, strict=True))
        draw, config = torch.Generator().manual_seed(0), model.config
        noise = [
            torch.rand(len(windows), count, generator=draw).to(device)
            for count in (config.num_audio_patches, config.num_image_patches)
        ]
        image = normalise_images(frames).to(device)
        filled = inpaint(model, windows.to(device), image, *noise)
        return Reconstructions(windows, image.cpu(), filled)

    def pairs(self, clip: int, count: int) -> tuple[Tensor, Tensor]:
        """`count` frames of a clip, spread over it: log-mel segments (n, rows, mels), images uint8 (n, side, side, 3)."""
        stored, rows = self.clips.store[clip], self.clips.window.rows
        frames = spread(stored.num_frames, count)
        starts = stored.window_starts(rows, self.clips.config.frame_alignment)[frames]
        mels = [stored.mel_rows(int(start), int(start) + rows) for start in starts]
        images = [fit(stored.frame(int(frame)), self.clips.side) for frame in frames]
        return torch.stack([self.clips.window.normalised(mel, 0) for mel in mels]), torch.stack(images)


@dataclass(frozen=True)
class Reconstructions:
    """Inputs as the model takes them, audio (clips, rows, mels) and image (clips, 3, side, side), and reconstructions of
    their masked versions."""

    audio: Tensor
    image: Tensor
    filled: Inpainting


def _with_split(data: DataConfig) -> list[Dataset]:
    """The datasets that have the split; DatasetError where none has it, a warning where some have not."""
    datasets, refusals = list(map(Dataset.open, data.paths)), []
    found = []
    for dataset in datasets:
        try:
            dataset.split_names(data.split)
            found.append(dataset)
        except DatasetError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    for refusal in refusals:
        logger.warning("Validation leaves a dataset out: %s", refusal)
    return found


def effective_rank(embeddings: Tensor) -> float:
    """How many directions (N, D) embeddings use: exp of the entropy of their normalised singular values.

    Between 1, all on one line (a collapsed model), and D. Vectors are scaled to length 1 first, as they are compared.
    """
    values = torch.linalg.svdvals(torch.nn.functional.normalize(embeddings.double(), dim=-1))
    fractions = values / values.sum()
    return float(torch.special.entr(fractions).sum().exp())
