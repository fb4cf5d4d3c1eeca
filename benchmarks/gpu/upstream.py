"""A training step as the model's published code takes it, in our own words: what the trainer is compared with.

Autocast to float16 with a loss scaler, attention written out as products and a softmax, Adam as torch has it by default, no
compilation, inputs normalised before they reach the device, and five losses read after each step.
"""

import torch
from timm.layers.attention import Attention
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.data.images import normalise_images
from cavsync.train.data.pair_rule import Batch
from cavsync.train.data.window import normalise_audio
from cavsync.train.pretrain import presets
from cavsync.train.pretrain.objective import INPUTS


class UpstreamStep:
    """`model` is on `device`."""

    def __init__(self, model: CavMaeSync, device: torch.device) -> None:
        self.model, self.device = model.train(), device
        for module in model.modules():
            if isinstance(module, Attention):
                module.fused_attn = False
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, 2e-4, weight_decay=5e-7, betas=(0.95, 0.999))
        self.scaler = torch.amp.GradScaler(device.type)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """As its loader gives them: float32 images (batch, 3, height, width) in pinned memory."""
        audio, image, *noises = (batch[name] for name in INPUTS)
        given = normalise_audio(audio, presets.sync_base().data), normalise_images(image), *noises
        return tuple(one.pin_memory() for one in given) if self.device.type == "cuda" else given

    def __call__(self, inputs: tuple[Tensor, ...]) -> list[float]:
        here = [one.to(self.device, non_blocking=True) for one in inputs]
        with torch.autocast(self.device.type, torch.float16):
            out = self.model(*here)
        self.optimizer.zero_grad()
        self.scaler.scale(out.loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        losses = out.loss, out.reconstruction_audio, out.reconstruction_image, out.contrastive
        return [one.item() for one in (*losses, out.contrastive_accuracy)]
