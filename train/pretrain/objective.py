"""The loss of one batch and its gradient, the same over any number of ranks and in parts of any size.

Every rank averages over its clips and the gradients are averaged over the ranks, which is right for the
reconstruction. The contrastive loss compares the clips of a group with each other. Where no group has clips of several
ranks, each rank averages over its groups; otherwise each rank computes the loss of all groups, from the embeddings of
all ranks.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from cavsync.model.blocks import Block
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.losses import Contrast, contrastive_loss, distillation_loss, total_loss
from cavsync.model.output import Output
from cavsync.train.data.images import normalise_images
from cavsync.train.data.pair_rule import CONTRAST_NOISE
from cavsync.train.data.window import normalise_audio
from cavsync.train.engine.device import autocast, begin_step, compile_options
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.step import TrainStep
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.contrast_view import ContrastViews, View
from cavsync.train.pretrain.metrics import PretrainLosses, TaughtLosses
from cavsync.train.pretrain.teacher import Teacher

INPUTS = ("audio", "image", "noise_audio", "noise_image")

LossTensors = dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """Some clips of a batch, those of one forward pass, on the model's device."""

    audio: Tensor
    """(clips, time, mels), normalised."""
    image: Tensor
    """uint8 (clips, height, width, 3)."""
    noise_audio: Tensor
    """(clips, patches): decides the masks of the reconstruction."""
    noise_image: Tensor
    view: View

    def arguments(self) -> tuple[Any, ...]:
        """Those of the model's forward pass."""
        image = normalise_images(self.image)
        view = self.view
        return self.audio, image, self.noise_audio, self.noise_image, view.kept_audio, view.kept_image


class PretrainObjective:
    """The loss of pretraining, for a `model` that is on `device`."""

    lr_fields = "optimizer.lr"

    def __init__(self, config: PretrainConfig, model: CavMaeSync, device: torch.device, ranks: Ranks) -> None:
        self.config, self.model, self.device, self.ranks = config, model, device, ranks
        self.teacher = None if config.teacher.momentum is None else Teacher(config, model)
        self.losses: type[PretrainLosses] = PretrainLosses if self.teacher is None else TaughtLosses
        if config.activation_checkpointing:
            recompute_activations(model)
        options = compile_options(config.compile)
        if options is not None:
            model.compile(**options)
        self._replica = ranks.replicated(model)
        self._views = ContrastViews(config, self.teacher, ranks)

    def backward(self, batch: Mapping[str, Any], scaled: Callable[[Tensor], Tensor]) -> LossTensors:
        """Adds the gradient of the `scaled` loss of this rank's `batch`; returns the loss and its parts.

        Those are the means over all ranks, detached and not scaled.
        """
        begin_step(self.config.compile)
        parts = self._parts(batch)
        losses = self._at_once(parts[0], scaled) if len(parts) == 1 else self._in_parts(parts, scaled)
        means = dict(zip(losses, self.ranks.mean(torch.stack(list(losses.values()))), strict=True))
        return {"loss": self._total(means), **means}

    def after_update(self) -> None:
        """The teacher follows the model, once a step."""
        if self.teacher is not None:
            self.teacher.follow(self.model)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.teacher is None else {"teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])

    def memory_advice(self, batch: Mapping[str, Any]) -> str:
        config, clips = self.config, len(batch["key"])
        return (
            f"batch_size={config.batch_size}, {clips} of it in this process, micro_batch={config.micro_batch}. Try, in "
            f"this order: --set micro_batch={_next_smaller(config.micro_batch or clips, clips)} (the same result in "
            "smaller parts), precision=bfloat16, activation_checkpointing=true, a smaller batch_size."
        )

    def _at_once(self, part: "Part", scaled: Callable[[Tensor], Tensor]) -> LossTensors:
        out = self._forward(part)
        contrast = self._contrast(out.embedding_audio, out.embedding_image)
        losses = self._losses_of_clips(out, part.view) | {"contrastive": contrast.loss}
        torch.autograd.backward(scaled(self._total(losses)))
        return _detached(losses) | {"accuracy": contrast.accuracy}

    def _in_parts(self, parts: list["Part"], scaled: Callable[[Tensor], Tensor]) -> LossTensors:
        """One backward a part, as if it were the whole batch at once.

        This is gradient caching (GradCache): all embeddings are computed without a graph, and from them the contrastive
        loss and its gradient with respect to each embedding. Then each part is computed again with a graph, whose
        backward starts from the cached gradient.
        """
        with torch.no_grad():
            embedded = [self._embed(part) for part in parts]
        audio, image = (torch.cat(rows).requires_grad_() for rows in zip(*embedded, strict=True))
        contrast = self._contrast(audio, image)
        cached = [
            gradient.chunk(len(parts)) for gradient in torch.autograd.grad(contrast.loss, (audio, image))
        ]

        sums: LossTensors = {}
        for number, (part, grad_audio, grad_image) in enumerate(zip(parts, *cached, strict=True), start=1):
            with self._averaging(number == len(parts)):
                out = self._forward(part)
                losses = self._losses_of_clips(out, part.view)
                losses = {name: loss / len(parts) for name, loss in losses.items()}
                surrogate = (out.embedding_audio * grad_audio).sum() + (
                    out.embedding_image * grad_image
                ).sum()
                torch.autograd.backward(scaled(self._total(losses | {"contrastive": surrogate})))
            for name, loss in _detached(losses).items():
                sums[name] = sums[name] + loss if name in sums else loss
        return sums | {"contrastive": contrast.loss.detach(), "accuracy": contrast.accuracy}

    def _losses_of_clips(self, out: Output, view: View) -> LossTensors:
        """The unweighted losses that are means over clips, each clip apart from the others."""
        losses = {
            "reconstruction_audio": out.reconstruction_audio,
            "reconstruction_image": out.reconstruction_image,
        }
        if view.token_audio is None or view.token_image is None:
            return losses
        distillation = distillation_loss(out.encoding_audio.distilled_token, view.token_audio)
        distillation += distillation_loss(out.encoding_image.distilled_token, view.token_image)
        return losses | {"distillation": distillation}

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of losses."""
        reconstruction = losses["reconstruction_audio"], losses["reconstruction_image"]
        total = total_loss(self.model.config, *reconstruction, losses["contrastive"])
        weight = self.config.teacher.distillation_weight
        return total + weight * losses["distillation"] if weight else total

    def _contrast(self, audio: Tensor, image: Tensor) -> Contrast:
        """Of this rank's embeddings, (batch, dim) or (batch, levels, dim), in groups of the whole batch."""
        group_size = self.config.group_size(self.ranks.count)
        if len(audio) % group_size:  # a group has clips of several ranks
            audio, image = self.ranks.gather(audio), self.ranks.gather(image)
        config = self.model.config
        return contrastive_loss(audio, image, config.temperature, config.contrastive_direction, group_size)

    def _forward(self, part: "Part") -> Output:
        with autocast(self.device, self.config.precision):
            out: Output = self._replica(*part.arguments())
        return out

    def _embed(self, part: "Part") -> tuple[Tensor, Tensor]:
        """The embeddings that `_forward` compares, (batch, dim) or (batch, 2, dim), without its decoder."""
        with autocast(self.device, self.config.precision):
            return self.model.contrastive_embeddings(*part.arguments())

    def _parts(self, batch: Mapping[str, Any]) -> list["Part"]:
        """The tensors of the batch on the model's device, a micro-batch each; images are uint8 still."""
        size = self.config.micro_batch or len(batch["key"])
        all_rows = [slice(first, first + size) for first in range(0, len(batch["key"]), size)]
        inputs = [self._inputs(batch, rows) for rows in all_rows]
        noise = [self._on_device(batch[name]) if name in batch else None for name in CONTRAST_NOISE]
        views = self._views.of([(audio, image) for audio, image, *_ in inputs], *noise)
        return [
            Part(audio, image, noise_audio, noise_image, view)
            for (audio, image, noise_audio, noise_image), view in zip(inputs, views, strict=True)
        ]

    def _inputs(self, batch: Mapping[str, Any], rows: slice) -> tuple[Tensor, ...]:
        """INPUTS of some clips on the model's device, the audio normalised there."""
        audio, *others = (self._on_device(batch[name][rows]) for name in INPUTS)
        return normalise_audio(audio, self.config.data), *others

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

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


def _detached(losses: LossTensors) -> LossTensors:
    return {name: loss.detach() for name, loss in losses.items()}


def _next_smaller(part: int, whole: int) -> int:
    """The largest part below `part` that divides `whole`; 1 where there is none."""
    return max((size for size in range(1, part) if whole % size == 0), default=1)
