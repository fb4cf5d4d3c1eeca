"""A classifier of videos: the encoders on each frame and its sound, then a head over the frames.

Upstream takes frames flattened into the batch; here videos and frames are two axes, which cannot be mistaken.
"""

import re
from typing import Self

import torch
from torch import Tensor, nn

from cavsync.model.blocks import Block, Modality
from cavsync.model.classifier_config import ClassifierConfig
from cavsync.model.config import ModelConfig
from cavsync.model.encoder import TOKEN_STD, Encoder, new_token, without_last


class AttentionHead(nn.Module):
    """A learned token looks at all frames of a video, which have no order, and gives one answer."""

    def __init__(self, model: ModelConfig, config: ClassifierConfig) -> None:
        super().__init__()
        dim = model.embed_dim * config.vectors_per_frame
        self.token = nn.init.normal_(new_token(dim), std=TOKEN_STD)
        sizes = (dim, model.num_heads, model.mlp_ratio)
        self.blocks = nn.ModuleList(Block(*sizes) for _ in range(config.attention_depth))
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, config.num_classes)

    def forward(self, vectors: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(vectors), -1, -1), vectors], dim=1)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.linear(self.norm(x[:, :1]))
        return logits


def build_head(model: ModelConfig, config: ClassifierConfig) -> nn.Module:
    """The head of `config`; all but attention answer for each frame by itself."""
    if config.head == "attention":
        return AttentionHead(model, config)
    dim = model.embed_dim * config.vectors_per_frame
    linear = nn.Linear(dim, config.num_classes)
    return linear if config.head == "linear" else nn.Sequential(nn.LayerNorm(dim), linear)


MODALITIES: dict[str, tuple[Modality, ...]] = {"both": ("a", "v"), "audio": ("a",), "image": ("v",)}
# Parameters that features do not depend on, by the start of their names.
IDLE = {
    "encoder": r"blocks_u|norm|constrative",
    "joint": r"blocks_u\.\d+\.norm[12]_|norm_|constrative",
    "own": r"blocks_u\.\d+\.norm[12]\.|norm\.",
    "joint-and-own": r"cls_token|register_tokens|constrative",
}
IDLE_WITHOUT = {"a": r".*_(a|audio)(\.|$)", "v": r".*_(v|visual)(\.|$)"}


class CavMaeClassifier(Encoder):
    """The classifier of two configurations, freshly initialised; see `from_pretrained`.

    Parameters that its answers do not depend on are not trained (`requires_grad` is off).
    """

    def __init__(self, config: ModelConfig, classifier: ClassifierConfig) -> None:
        super().__init__(config)
        self.classifier = classifier
        self.modalities = MODALITIES[classifier.modality]
        self.head = build_head(config, classifier)
        self._initialise()
        self._choose_trained()

    @classmethod
    def from_pretrained(cls, model: Encoder, classifier: ClassifierConfig) -> Self:
        """A fresh head on a copy of the encoders of a pretrained model, or of another classifier."""
        own = cls(model.config, classifier)
        shared, tensors = own._encoder_names(), model.state_dict()
        own.load_state_dict(own.state_dict() | {name: tensors[name] for name in shared})
        return own

    def forward(self, audio: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Logits (videos, classes); `audio` is (videos, frames, time, mels), `image` (videos, frames, 3, h, w).

        A classifier of one modality leaves the other unread.
        """
        return self.answers(audio, image).mean(dim=1)

    def answers(self, audio: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Logits (videos, answers, classes): of each frame, or one of all frames from an attention head.

        CAV-MAE averages the probabilities of frames: `answers(...).softmax(-1).mean(1)`, or `sigmoid`.
        """
        logits: Tensor = self.head(self.describe(audio, image))
        return logits

    def describe(self, audio: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """What the head sees: (videos, frames, dim). Of frozen encoders it can be computed once and kept."""
        given = self._given(audio, image)
        videos, frames = next(iter(given.values())).shape[:2]
        embedded = {
            modality: (self._embed_audio if modality == "a" else self._embed_image)(batch.flatten(0, 1))
            for modality, batch in given.items()
        }
        return self._vectors(embedded).reshape(videos, frames, -1)

    def freeze_encoder(self) -> None:
        """From here on the head alone is trained: the rest has no gradients and stays in eval mode."""
        for parameter in self.parameter_groups()["encoder"]:
            parameter.requires_grad_(False)
        self.train(self.training)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that are trained, as "encoder" (empty once frozen) and "head"."""
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        encoder = self._encoder_names()
        return {
            "encoder": [p for name, p in trained.items() if name in encoder],
            "head": [p for name, p in trained.items() if name not in encoder],
        }

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not self.parameter_groups()["encoder"]:
            for name, part in self.named_children():
                part.train(mode and name == "head")
        return self

    def _given(self, audio: Tensor | None, image: Tensor | None) -> dict[Modality, Tensor]:
        """The inputs that are read, checked against each other."""
        given: dict[Modality, Tensor] = {}
        for modality in self.modalities:
            name, batch, axes = ("audio", audio, 4) if modality == "a" else ("image", image, 5)
            if batch is None or batch.ndim != axes:
                shape = None if batch is None else tuple(batch.shape)
                raise ValueError(
                    f"{name}={shape}: modality={self.classifier.modality!r} takes (videos, frames, ...)"
                )
            given[modality] = batch
        if len({batch.shape[:2] for batch in given.values()}) > 1:
            shapes = " and ".join(str(tuple(batch.shape[:2])) for batch in given.values())
            raise ValueError(
                f"sounds and pictures are {shapes} (videos, frames): pass one of each for a frame"
            )
        return given

    def _vectors(self, embedded: dict[Modality, Tensor]) -> Tensor:
        """(items, patches, dim) of each modality -> (items, dim of the head)."""
        if self.classifier.features == "joint-and-own":
            ((modality, patches),) = embedded.items()
            return self._partner_missing(patches, modality)
        tokens = {modality: self._encode(patches, modality) for modality, patches in embedded.items()}
        if self.classifier.features == "joint" and len(tokens) == 2:
            return torch.cat(self._forward_joint(tokens["a"], tokens["v"]), dim=1).mean(dim=1)
        return torch.cat([self._vector(seen, modality) for modality, seen in tokens.items()], dim=1)

    def _vector(self, tokens: Tensor, modality: Modality) -> Tensor:
        """One modality alone, (items, tokens, dim) -> (items, dim)."""
        if self.classifier.features == "own":
            own = self._forward_contrastive(tokens, modality)
            return own.global_token if self.classifier.pooling == "global" else own.patches.mean(dim=1)
        if self.classifier.features == "joint":
            tokens = self.norm(self._joint_blocks(tokens, None))
        tokens = without_last(tokens, self.config.num_late_registers)
        first = self.classifier.pooling == "global" and self.config.num_global_tokens > 0
        return tokens[:, 0] if first else tokens.mean(dim=1)

    def _partner_missing(self, patches: Tensor, modality: Modality) -> Tensor:
        patches = self._encode(patches, modality, learned=False)
        joint: Tensor = self.norm(self._joint_blocks(patches, None))
        own: Tensor = self._part("norm", modality)(self._joint_blocks(patches, modality))
        return (joint.mean(dim=1) + own.mean(dim=1)) / 2

    def _choose_trained(self) -> None:
        """All that the answers depend on, position tables included, as upstream fine-tunes; nothing else."""
        idle = [IDLE[self.classifier.features]]
        idle += [pattern for modality, pattern in IDLE_WITHOUT.items() if modality not in self.modalities]
        for name in self._encoder_names():
            trained = not any(re.match(pattern, name) for pattern in idle)
            self.get_parameter(name).requires_grad_(trained)

    def _encoder_names(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if not name.startswith("head.")}
