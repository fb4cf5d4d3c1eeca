"""Proves that a trained model embeds, ranks and maps in bfloat16 as in float32, within the bounds that docs/evaluating.md states."""

import numpy as np
import pytest
import torch
from support.known_shards import micro_model
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.losses import contrastive_loss
from cavsync.train.data.images import normalise_images
from cavsync.train.data.window import WindowRule
from cavsync.train.embedding.encode import unit_frames, unit_segments
from cavsync.train.embedding.sliding import AVClip, WindowEncoder
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments
from cavsync.train.evaluation.heatmaps.heatmap import HeatmapModel, MapConfig
from cavsync.train.evaluation.retrieval.metrics import retrieve

CPU = torch.device("cpu")
NUM_CLIPS, NUM_PAIRS, ROWS, SIDE = 12, 4, 32, 64
MIN_COSINE = 0.9999


def pairs(seed: int) -> tuple[Tensor, Tensor]:
    """Segments (clips * pairs, rows, mels) that are loud in a band of the clip's own, and images (..., 3) of its colour."""
    random = torch.Generator().manual_seed(seed)
    clip = torch.arange(NUM_CLIPS).repeat_interleave(NUM_PAIRS)
    audio = 0.3 * torch.randn(len(clip), ROWS, 128, generator=random)
    for segment, number in zip(audio, clip.tolist(), strict=True):
        segment[:, 10 * number : 10 * number + 10] += 2
    turn = 2 * torch.pi * clip[:, None] / NUM_CLIPS + torch.tensor([0.0, 2.1, 4.2])
    image = (127 + 100 * turn.cos())[:, None, None] + 10 * torch.randn(
        len(clip), SIDE, SIDE, 3, generator=random
    )
    return audio, image.clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def model() -> CavMaeSync:
    """Trained by the contrast alone until it finds clips that it did not see."""
    torch.manual_seed(0)
    model = CavMaeSync(micro_model(image_size=SIDE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        audio, image = (part[::NUM_PAIRS] for part in pairs(seed=1 + step))
        vectors = model.audio_embedding(audio), model.image_embedding(normalise_images(image))
        optimizer.zero_grad()
        contrastive_loss(*vectors, 0.05, "two-way").loss.backward()
        optimizer.step()
    return model.eval()


def test_embeddings_and_recall_are_those_of_float32(model: CavMaeSync) -> None:
    audio, image = pairs(seed=0)
    exact, rounded = (
        (unit_segments(model, audio, CPU, precision=one), unit_frames(model, image, CPU, precision=one))
        for one in ("float32", "bfloat16")
    )
    for ours, theirs in zip(rounded, exact, strict=True):
        assert not torch.equal(ours, theirs)
        assert float((ours * theirs).sum(dim=-1).min()) >= MIN_COSINE
    recalls = []
    for vectors in (exact, rounded):
        found = retrieve(*(one.reshape(NUM_CLIPS, NUM_PAIRS, -1) for one in vectors), "diagonal-mean")
        recalls.append([one.recalls[1].value for one in (found.audio_to_video, found.video_to_audio)])
    assert recalls[0] == recalls[1]
    assert min(recalls[0]) > 25  # chance is 8.3


@pytest.mark.parametrize("method", ["masked-view", "denseav"])
def test_heatmaps_are_those_of_float32(method: str, model: CavMaeSync) -> None:
    audio, image = pairs(seed=0)
    corner = torch.full_like(image[0], 127)
    corner[: SIDE // 2, : SIDE // 2] = image[0, : SIDE // 2, : SIDE // 2]
    segments = AudioSegments(audio[:1], torch.ones(1, 2, dtype=torch.bool))
    maps = []
    for precision in ("float32", "bfloat16"):
        heatmaps = HeatmapModel(model, MapConfig(), CPU, precision)  # type: ignore[arg-type]
        features = heatmaps.encode_image(corner, method)  # type: ignore[arg-type]
        maps.append(features.heatmap(heatmaps.encode_audio(segments)).cells)
    exact, rounded = maps
    assert not torch.equal(exact, rounded)
    assert np.corrcoef(exact.flatten(), rounded.flatten())[0, 1] > 0.99


def test_windows_of_a_clip_are_embedded_in_the_precision_that_is_given(model: CavMaeSync) -> None:
    audio, image = pairs(seed=0)
    clip = AVClip("clip", image[:8], np.linspace(0, 1.9, 8), audio[:8].flatten(0, 1).numpy())
    rule = WindowRule(rows=ROWS, mean=0.0, std=1.0, pad_value=0.0)
    exact, rounded = (
        WindowEncoder(model, rule, "time", 10, CPU, one).encode(clip)  # type: ignore[arg-type]
        for one in ("float32", "bfloat16")
    )
    for ours, theirs in ((rounded.frames, exact.frames), (rounded.windows, exact.windows)):
        assert not np.array_equal(ours, theirs)
        assert (ours * theirs).sum(axis=1).min() >= MIN_COSINE
