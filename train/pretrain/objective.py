"""The loss of one batch and its gradient, the same over any number of ranks and in parts of any size.

Every rank averages over its clips and the gradients are averaged over the ranks, which is right for the
reconstruction. The contrastive loss compares the clips of a group with each other. Where no group has clips of several
ranks, each rank averages over its groups; otherwise each rank computes the loss of all groups, from the embeddings of
all ranks.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from cavsync.model.blocks import Block
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.losses import Contrast, contrastive_loss, total_loss
from cavsync.model.output import Output
from cavsync.train.data.images import normalise_images
from cavsync.train.engine.device import autocast
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.step import TrainStep
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.metrics import PretrainLosses

INPUTS = ("audio", "image", "noise_audio", "noise_image")

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
LossTensors = dict[str, Tensor]


class PretrainObjective:
    """The loss of pretraining, for a `model` that is on `device`."""

    losses, lr_fields = PretrainLosses, "optimizer.lr"

    def __init__(self, config: PretrainConfig, model: CavMaeSync, device: torch.device, ranks: Ranks) -> None:
        self.config, self.model, self.device, self.ranks = config, model, device, ranks
        if config.activation_checkpointing:
            recompute_activations(model)
        if config.compile:
            model.compile()
        self._replica = ranks.replicated(model)

    def backward(self, batch: Mapping[str, Any], scaled: Callable[[Tensor], Tensor]) -> LossTensors:
        """Adds the gradient of the `scaled` loss of this rank's `batch`; returns the loss and its parts.

        Those are the means over all ranks, detached and not scaled.
        """
        parts = list(self._parts(batch))
        losses = self._at_once(parts[0], scaled) if len(parts) == 1 else self._in_parts(parts, scaled)
        means = dict(zip(losses, self.ranks.mean(torch.stack(list(losses.values()))), strict=True))
        reconstruction = means["reconstruction_audio"], means["reconstruction_image"]
        return {"loss": total_loss(self.model.config, *reconstruction, means["contrastive"]), **means}

    def memory_advice(self, batch: Mapping[str, Any]) -> str:
        config, clips = self.config, len(batch["key"])
        return (
            f"batch_size={config.batch_size}, {clips} of it in this process, micro_batch={config.micro_batch}. Try, in "
            f"this order: --set micro_batch={_next_smaller(config.micro_batch or clips, clips)} (the same result in "
            "smaller parts), precision=bfloat16, activation_checkpointing=true, a smaller batch_size."
        )

    def _at_once(self, inputs: Inputs, scaled: Callable[[Tensor], Tensor]) -> LossTensors:
        out = self._forward(inputs)
        contrast = self._contrast(out.embedding_audio, out.embedding_image)
        reconstruction = out.reconstruction_audio, out.reconstruction_image
        torch.autograd.backward(scaled(total_loss(self.model.config, *reconstruction, contrast.loss)))
        return _detached(*reconstruction, contrast)

    def _in_parts(self, parts: list[Inputs], scaled: Callable[[Tensor], Tensor]) -> LossTensors:
        """One backward a part, as if it were the whole batch at once.

        This is gradient caching (GradCache): all embeddings are computed without a graph, and from them the contrastive
        loss and its gradient with respect to each embedding. Then each part is computed again with a graph, whose
        backward starts from the cached gradient.
        """
        with torch.no_grad():
            embedded = [self._embed(inputs) for inputs in parts]
        audio, image = (torch.cat(rows).requires_grad_() for rows in zip(*embedded, strict=True))
        contrast = self._contrast(audio, image)
        cached = [
            gradient.chunk(len(parts)) for gradient in torch.autograd.grad(contrast.loss, (audio, image))
        ]

        sum_audio, sum_image = torch.zeros(2, device=self.device)
        for number, (inputs, grad_audio, grad_image) in enumerate(zip(parts, *cached, strict=True), start=1):
            with self._averaging(number == len(parts)):
                out = self._forward(inputs)
                reconstruction = out.reconstruction_audio / len(parts), out.reconstruction_image / len(parts)
                surrogate = (out.embedding_audio * grad_audio).sum() + (
                    out.embedding_image * grad_image
                ).sum()
                torch.autograd.backward(scaled(total_loss(self.model.config, *reconstruction, surrogate)))
            sum_audio += reconstruction[0].detach()
            sum_image += reconstruction[1].detach()
        return _detached(sum_audio, sum_image, contrast)

    def _contrast(self, audio: Tensor, image: Tensor) -> Contrast:
        """Of this rank's embeddings, (batch, dim) or (batch, levels, dim), in groups of the whole batch."""
        group_size = self.config.group_size(self.ranks.count)
        if len(audio) % group_size:  # a group has clips of several ranks
            audio, image = self.ranks.gather(audio), self.ranks.gather(image)
        config = self.model.config
        return contrastive_loss(audio, image, config.temperature, config.contrastive_direction, group_size)

    def _forward(self, inputs: Inputs) -> Output:
        audio, image, noise_audio, noise_image = inputs
        with autocast(self.device, self.config.precision):
            out: Output = self._replica(audio, normalise_images(image), noise_audio, noise_image)
        return out

    def _embed(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The embeddings that `_forward` compares, (batch, dim) or (batch, 2, dim), without its decoder."""
        audio, image, noise_audio, noise_image = inputs
        with autocast(self.device, self.config.precision):
            return self.model.contrastive_embeddings(audio, normalise_images(image), noise_audio, noise_image)

    def _parts(self, batch: Mapping[str, Any]) -> Iterator[Inputs]:
        """The tensors of the batch on the model's device, a micro-batch at a time; images are uint8 still."""
        size = self.config.micro_batch or len(batch["key"])
        for first in range(0, len(batch["key"]), size):
            rows = slice(first, first + size)
            audio, image, noise_audio, noise_image = (
                batch[name][rows].to(self.device, non_blocking=True) for name in INPUTS
            )
            yield audio, image, noise_audio, noise_image

    def _averaging(self, last: bool) -> AbstractContextManager[object]:
        """Gradients travel between the ranks once a step: with the last part."""
        if isinstance(self._replica, DistributedDataParallel) and not last:
            return self._replica.no_sync()
        return nullcontext()


def pretrain_step(
    config: PretrainConfig, model: CavMaeSync, device: torch.device, ranks: Ranks | None = None
) -> TrainStep[PretrainLosses]:
    """The step that trains `model`, which it moves to `device`."""
    ranks = ranks or Ranks()
    model = model.to(device).train()
    return TrainStep(config, model, PretrainObjective(config, model, device, ranks), device, ranks)


def recompute_activations(model: CavMaeSync) -> None:
    """Makes each block of `model` compute its activations again in the backward, instead of keeping them."""
    for module in model.modules():
        if isinstance(module, Block):
            again = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
            module.forward = again  # type: ignore[method-assign]


def _detached(reconstruction_audio: Tensor, reconstruction_image: Tensor, contrast: Contrast) -> LossTensors:
    return {
        "reconstruction_audio": reconstruction_audio.detach(),
        "reconstruction_image": reconstruction_image.detach(),
        "contrastive": contrast.loss.detach(),
        "accuracy": contrast.accuracy,
    }


def _next_smaller(part: int, whole: int) -> int:
    """The largest part below `part` that divides `whole`; 1 where there is none."""
    return max((size for size in range(1, part) if whole % size == 0), default=1)
