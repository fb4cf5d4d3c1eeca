"""Proves that what evaluations compute on a device is what float64 on the CPU gives: vectors, ranks, classes, heatmaps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from support.gpu.devices import CPU, full_float32, on_each_device
from support.known_shards import micro_model
from torch import Tensor
from torch.nn.functional import normalize

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import linear_probe
from cavsync.train.data.images import normalise_images
from cavsync.train.embedding.encode import unit_frames, unit_segments
from cavsync.train.evaluation.classification.predict import class_probabilities, describe, evaluating
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments
from cavsync.train.evaluation.heatmaps.heatmap import HeatmapModel, MapConfig
from cavsync.train.evaluation.retrieval.metrics import retrieve
from cavsync.train.evaluation.retrieval.similarity import AGGREGATIONS

NUM_CLIPS, NUM_PAIRS = 40, 3


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    with full_float32():
        yield


@pytest.fixture
def model() -> CavMaeSync:
    torch.manual_seed(0)
    return CavMaeSync(micro_model(embed_dim=32)).eval()


def frames(count: int) -> Tensor:
    return torch.randint(
        256, (count, 32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )


def segments(count: int) -> Tensor:
    return torch.randn(count, 32, 128, generator=torch.Generator().manual_seed(2))


@on_each_device
def test_embeddings(model: CavMaeSync, device: torch.device) -> None:
    image, audio = unit_frames(model.to(device), frames(5), device), unit_segments(model, segments(5), device)
    exact = model.to(CPU).double()
    with torch.no_grad():
        expected = (
            exact.encode_image(normalise_images(frames(5)).double()).global_token,
            exact.encode_audio(segments(5).double()).global_token,
        )
    for ours, one in zip((image, audio), expected, strict=True):
        assert ours.device == CPU
        torch.testing.assert_close(ours.double(), normalize(one, dim=-1), atol=1e-4, rtol=0)


@on_each_device
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_ranks_and_recalls(aggregation: Any, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(3)
    audio = torch.randn(NUM_CLIPS, NUM_PAIRS, 16, generator=generator)
    image = audio + 1.5 * torch.randn(audio.shape, generator=generator)
    cosines = torch.einsum(
        "nid,mjd->nmij", normalize(audio.double(), dim=-1), normalize(image.double(), dim=-1)
    )
    scores = {
        "diagonal-mean": cosines.diagonal(dim1=2, dim2=3).mean(-1),
        "diagonal-max": cosines.diagonal(dim1=2, dim2=3).amax(-1),
        "mean": cosines.mean((2, 3)),
        "max": cosines.amax((2, 3)),
    }[aggregation].numpy()
    better = scores >= np.diag(scores)[:, None]
    found = retrieve(audio, image, aggregation, device=device)
    assert found.ranking.own_clip.audio_to_video.tolist() == (better.sum(1) - 1).tolist()
    assert found.audio_to_video.recalls[1].value == pytest.approx(100 * np.mean(better.sum(1) == 1))


@on_each_device
def test_class_probabilities(model: CavMaeSync, device: torch.device) -> None:
    torch.manual_seed(1)
    classifier = CavMaeClassifier.from_pretrained(model, linear_probe(4))
    given = {"audio": segments(6)[None], "image": frames(6)[None]}

    def probabilities(on: torch.device) -> np.ndarray:
        with evaluating(classifier.to(on)):
            vectors = describe(classifier, {name: one.to(on) for name, one in given.items()})
            return class_probabilities(classifier, vectors, "single-label")

    on_device, on_cpu = probabilities(device), probabilities(CPU)
    assert on_device.sum() == pytest.approx(1)
    np.testing.assert_allclose(on_device, on_cpu, atol=1e-4)


@on_each_device
@pytest.mark.parametrize("method", ["masked-view", "denseav"])
def test_heatmaps(method: Any, model: CavMaeSync, device: torch.device) -> None:
    prompt = AudioSegments(segments(2), torch.ones(2, 2, dtype=torch.bool))
    config = MapConfig(repeats=4, visible_fraction=0.5)

    def heatmap(on: torch.device) -> Any:
        maps = HeatmapModel(model, config, on)
        return maps.encode_image(frames(1)[0], method).heatmap(maps.encode_audio(prompt))

    on_device, on_cpu = heatmap(device), heatmap(CPU)
    assert on_device.cells.device == CPU
    torch.testing.assert_close(on_device.cells, on_cpu.cells, atol=1e-4, rtol=1e-3)
    assert on_device.level == pytest.approx(on_cpu.level, abs=1e-5)
