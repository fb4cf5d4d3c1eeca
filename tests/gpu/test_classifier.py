"""Proves that a compiled classifier computes the loss and the gradients that it computes without being compiled."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.gpu.devices import full_float32, on_each_device
from support.known_shards import micro_model
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.classifier import CavMaeClassifier
from cavsync.train.finetune.config import FinetuneConfig
from cavsync.train.finetune.objective import FinetuneObjective
from cavsync.train.finetune.presets import finetune_preset

# A compiler may warn of what it would like better.
pytestmark = pytest.mark.filterwarnings("default")
NUM_CLIPS, NUM_FRAMES, NUM_CLASSES = 3, 2, 4


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    with full_float32():
        yield


def loss_and_gradients(config: FinetuneConfig, device: torch.device) -> tuple[float, Tensor]:
    """Of one backward on noise, the gradients as one vector."""
    torch.manual_seed(0)
    pretrained = CavMaeSync(micro_model(embed_dim=32))
    head = config.head.classifier(NUM_CLASSES, pretrained.config)
    model = CavMaeClassifier.from_pretrained(pretrained, head).to(device).train()
    if config.frozen:
        model.freeze_encoder()
    batch = {
        "audio": torch.randn(NUM_CLIPS, NUM_FRAMES, 32, 128),
        "image": torch.randint(256, (NUM_CLIPS, NUM_FRAMES, 32, 32, 3), dtype=torch.uint8),
        "target": torch.rand(NUM_CLIPS, NUM_CLASSES),
        "key": [f"clip{number}" for number in range(NUM_CLIPS)],
    }
    objective = FinetuneObjective(config, "multi-label", model, device)
    loss = objective.backward(batch, lambda loss: loss)["loss"].item()
    gradients = [one.grad.cpu().flatten() for one in model.parameters() if one.grad is not None]
    return loss, torch.cat(gradients)


@pytest.mark.timeout(150)
@on_each_device
@pytest.mark.parametrize("preset", ["finetune-tiny", "probe-as20k"])
def test_a_compiled_classifier_computes_what_it_computes_without(
    preset: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type == "cpu":  # the compiler's front end alone: generating code takes minutes there
        monkeypatch.setattr(
            "cavsync.train.finetune.objective.torch.compile", partial(torch.compile, backend="eager")
        )
    config = replace(finetune_preset(preset), precision="float32", compile=False)
    loss, gradients = loss_and_gradients(config, device)
    compiled_loss, compiled_gradients = loss_and_gradients(replace(config, compile=True), device)
    assert compiled_loss == pytest.approx(loss, rel=1e-4)
    assert float((compiled_gradients - gradients).norm() / gradients.norm()) < 1e-4
