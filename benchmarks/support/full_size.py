"""A training step at the paper's size, as the trainer takes it or as upstream does, on random inputs."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.layers.attention import Attention
from torch.utils._python_dispatch import TorchDispatchMode

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import ModelConfig
from cavsync.train.data.images import normalise_images
from cavsync.train.data.pair_rule import Batch
from cavsync.train.data.window import normalise_audio
from cavsync.train.engine.config import Precision
from cavsync.train.pretrain import presets
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.flops import flops_of_a_clip
from cavsync.train.pretrain.objective import INPUTS, pretrain_step


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to take a step."""

    batch_size: int = 8
    precision: Precision = "float32"
    as_upstream: bool = False  # soft attention, plain Adam
    compile: bool = False
    device: str = "cpu"


class Step:
    """A model and its optimizer, ready to take steps on one batch."""

    def __init__(self, variant: Variant) -> None:
        config = training(variant)
        torch.manual_seed(0)
        model = CavMaeSync(config.model)
        if variant.as_upstream:
            for module in model.modules():
                if isinstance(module, Attention):
                    module.fused_attn = False
        self.train = pretrain_step(config, model, torch.device(variant.device))
        if variant.as_upstream:
            self.train.optimizer = _unfused(self.train.optimizer)
        self.batch, self.lr = random_batch(variant.batch_size, config.model), config.optimizer.lr

    def __call__(self) -> None:
        """Reading the losses waits for the device."""
        self.train(self.batch, 1, self.lr).read()

    def num_flops(self) -> int:
        """Of one step, forward and backward, attention included."""
        return len(self.batch["key"]) * flops_of_a_clip(self.train.config)

    def num_operations(self) -> int:
        """That one step sends to the device, which are about as many kernels."""
        self()  # the first one makes the optimizer's averages too
        with _Count() as counter:
            self()
        return counter.num_operations

    def graphs(self) -> tuple[int, int]:
        """Into how many graphs torch.compile takes the model's forward pass, and how often it must break off."""
        audio, image, *noises = (self.batch[name] for name in INPUTS)
        normalised = normalise_audio(audio, self.train.config.data), normalise_images(image)
        found = torch._dynamo.explain(self.train.model)(*normalised, *noises)
        return found.graph_count, found.graph_break_count


def _unfused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same optimizer as upstream has it, without the hook by which the device skips a fused update."""
    groups = [group | {"fused": False, "foreach": False} for group in optimizer.param_groups]
    plain: torch.optim.Optimizer = type(optimizer)(groups)
    return plain


class _Count(TorchDispatchMode):
    num_operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        # Views move nothing.
        self.num_operations += not function.is_view
        return function(*arguments, **(options or {}))


def training(variant: Variant) -> PretrainConfig:
    return replace(
        presets.sync_base(),
        batch_size=variant.batch_size,
        micro_batch=None,
        precision=variant.precision,
        compile=variant.compile,
    )


def random_batch(size: int, model: ModelConfig) -> Batch:
    """As the loader gives it: images as bytes, log-mel in float16."""
    generator = torch.Generator().manual_seed(1)
    side = model.image_size
    return {
        "audio": (4 * torch.randn(size, model.audio_rows, model.num_mels, generator=generator) - 5).half(),
        "image": torch.randint(256, (size, side, side, 3), generator=generator, dtype=torch.uint8),
        "noise_audio": torch.rand(size, model.num_audio_patches, generator=generator),
        "noise_image": torch.rand(size, model.num_image_patches, generator=generator),
        "key": [f"clip{number}" for number in range(size)],
    }
