"""A classifier of videos: the encoders on each frame and its audio segment, then a head over the frames.

Upstream takes frames flattened into the batch; here videos and frames are two axes, which cannot be confused.
"""

import re
from typing import Self

import torch
from torch import Tensor, nn

from cavsync.model.blocks import Block, ModalityLetter
from cavsync.model.classifier_config import ClassifierConfig
from cavsync.model.config import ModelConfig
from cavsync.model.encoder import TOKEN_STD, Encoder, new_token, without_last
from cavsync.model.errors import InputShapeError


class AttentionHead(nn.Module):
    """A learned token that attends to all frames of a video, which have no order, gives one prediction."""

    def __init__(self, model: ModelConfig, config: ClassifierConfig) -> None:
        super().__init__()
        dim = model.embed_dim * config.vectors_per_frame
        self.token = nn.init.normal_(new_token(dim), std=TOKEN_STD)
        sizes = (dim, model.num_heads, model.mlp_ratio)
        self.blocks = nn.ModuleList(Block(*sizes) for _ in range(config.attention_depth))
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, config.num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(videos, frames, dim) -> logits (videos, 1, classes)."""
        x = torch.cat([self.token.expand(len(features), -1, -1), features], dim=1)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.linear(self.norm(x[:, :1]))
        return logits


def build_head(model: ModelConfig, config: ClassifierConfig) -> nn.Module:
    """The head of `config`: (videos, frames, dim) -> logits (videos, frames, classes), or (videos, 1, classes)."""
    if config.head == "attention":
        return AttentionHead(model, config)
    dim = model.embed_dim * config.vectors_per_frame
    linear = nn.Linear(dim, config.num_classes)
    return linear if config.head == "linear" else nn.Sequential(nn.LayerNorm(dim), linear)


MODALITIES: dict[str, tuple[ModalityLetter, ...]] = {"both": ("a", "v"), "audio": ("a",), "image": ("v",)}
# Parameters that each kind of features does not depend on, by the start of their names.
IDLE = {
    "encoder": r"blocks_u|norm|constrative",
    "joint": r"blocks_u\.\d+\.norm[12]_|norm_|constrative",
    "own": r"blocks_u\.\d+\.norm[12]\.|norm\.",
    "joint-and-own": r"cls_token|register_tokens|constrative",
}
IDLE_WITHOUT = {"a": r".*_(a|audio)(\.|$)", "v": r".*_(v|visual)(\.|$)"}


class CavMaeClassifier(Encoder):
    """The classifier of two configurations, with random weights; see `from_pretrained`.

    Parameters that its logits do not depend on are not trained (`requires_grad` is off).
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
        """A head with random weights on a copy of the encoders of a pretrained model, or of another classifier."""
        new, tensors = cls(model.config, classifier), model.state_dict()
        new.load_state_dict(new.state_dict() | {name: tensors[name] for name in new._encoder_names()})
        return new

    def forward(self, audio: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Logits (videos, classes); `audio` is (videos, frames, time, mels), `image` (videos, frames, 3, h, w).

        A classifier of one modality ignores the other.
        """
        return self.frame_logits(audio, image).mean(dim=1)

    def frame_logits(self, audio: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Logits (videos, frames, classes), or (videos, 1, classes) of all frames from an attention head.

        Arguments are those of `forward`. CAV-MAE averages the probabilities of frames:
        `frame_logits(...).softmax(-1).mean(1)`, or `sigmoid`.
        """
        logits: Tensor = self.head(self.frame_features(audio, image))
        return logits

    def frame_features(self, audio: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """The input of the head, (videos, frames, dim); frozen encoders need to compute it only once.

        Arguments are those of `forward`.
        """
        inputs = self._checked_inputs(audio, image)
        videos, frames = next(iter(inputs.values())).shape[:2]
        patches = {
            modality: (self._embed_audio if modality == "a" else self._embed_image)(batch.flatten(0, 1))
            for modality, batch in inputs.items()
        }  # of each modality: (videos * frames, patches, dim)
        return self._features(patches).reshape(videos, frames, -1)  # (videos, frames, dim)

    def freeze_encoder(self) -> None:
        """Trains the head alone from now on: the rest has no gradients and stays in eval mode."""
        for parameter in self.parameter_groups()["encoder"]:
            parameter.requires_grad_(False)
        self.train(self.training)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The trained parameters in two groups, "encoder" (empty once frozen) and "head"."""
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        encoder = self._encoder_names()
        return {
            "encoder": [p for name, p in trained.items() if name in encoder],
            "head": [p for name, p in trained.items() if name not in encoder],
        }

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but frozen encoders stay in eval mode."""
        super().train(mode)
        if not self.parameter_groups()["encoder"]:
            for name, part in self.named_children():
                part.train(mode and name == "head")
        return self

    def _checked_inputs(self, audio: Tensor | None, image: Tensor | None) -> dict[ModalityLetter, Tensor]:
        """The inputs of the classifier's modalities, (videos, frames, ...) each."""
        inputs: dict[ModalityLetter, Tensor] = {}
        for modality in self.modalities:
            name, batch, axes = ("audio", audio, 4) if modality == "a" else ("image", image, 5)
            if batch is None or batch.ndim != axes:
                shape = None if batch is None else tuple(batch.shape)
                raise InputShapeError(
                    f"{name}={shape}: modality={self.classifier.modality!r} takes (videos, frames, ...)"
                )
            inputs[modality] = batch
        if len({batch.shape[:2] for batch in inputs.values()}) > 1:
            shapes = " and ".join(str(tuple(batch.shape[:2])) for batch in inputs.values())
            raise InputShapeError(
                f"audio and image are {shapes} (videos, frames): pass one of each for a frame"
            )
        return inputs

    def _features(self, patches: dict[ModalityLetter, Tensor]) -> Tensor:
        """(batch, patches, dim) of each modality -> (batch, dim of the head)."""
        if self.classifier.features == "joint-and-own":
            ((modality, only_patches),) = patches.items()
            return self._joint_and_own_features(only_patches, modality)
        tokens = {modality: self._encode(each, modality) for modality, each in patches.items()}
        if self.classifier.features == "joint" and len(tokens) == 2:
            return torch.cat(self._forward_joint(tokens["a"], tokens["v"]), dim=1).mean(dim=1)
        return torch.cat([self._features_alone(each, modality) for modality, each in tokens.items()], dim=1)

    def _features_alone(self, tokens: Tensor, modality: ModalityLetter) -> Tensor:
        """One modality alone: (batch, tokens, dim) -> (batch, dim)."""
        if self.classifier.features == "own":
            own = self._forward_contrastive(tokens, modality)
            return own.global_token if self.classifier.pooling == "global" else own.patches.mean(dim=1)
        if self.classifier.features == "joint":
            tokens = self.norm(self._joint_blocks(tokens, None))
        tokens = without_last(tokens, self.config.num_late_registers)
        has_global = self.classifier.pooling == "global" and self.config.num_global_tokens > 0
        return tokens[:, 0] if has_global else tokens.mean(dim=1)

    def _joint_and_own_features(self, patches: Tensor, modality: ModalityLetter) -> Tensor:
        """One modality of a model of both: (batch, patches, dim) -> (batch, dim)."""
        patches = self._encode(patches, modality, learned=False)
        joint: Tensor = self.norm(self._joint_blocks(patches, None))
        own: Tensor = self._part("norm", modality)(self._joint_blocks(patches, modality))
        return (joint.mean(dim=1) + own.mean(dim=1)) / 2

    def _choose_trained(self) -> None:
        """Trains all that the logits depend on, position tables included, as upstream does, and nothing else."""
        idle = [IDLE[self.classifier.features]]
        idle += [pattern for modality, pattern in IDLE_WITHOUT.items() if modality not in self.modalities]
        for name in self._encoder_names():
            trained = not any(re.match(pattern, name) for pattern in idle)
            self.get_parameter(name).requires_grad_(trained)

    def _encoder_names(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if not name.startswith("head.")}
