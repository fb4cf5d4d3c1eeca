"""The configuration of a classifier: which features of the encoders it takes, and its head. Imports no torch."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from cavsync.model.errors import ModelConfigError

Head = Literal["attention", "mlp", "linear"]
Modality = Literal["both", "audio", "image"]
Features = Literal["encoder", "joint", "own", "joint-and-own"]
Pooling = Literal["global", "mean"]
_CLASSIFIER_CHOICES = {"head": Head, "modality": Modality, "features": Features, "pooling": Pooling}


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """One classifier; the defaults are the paper's probe: two blocks of attention over the frames of a video."""

    num_classes: int
    head: Head = "attention"
    """attention: blocks over the frames, one prediction a video; mlp: a norm and a linear layer on each frame, as
    CAV-MAE fine-tunes; linear: one linear layer on each frame."""
    modality: Modality = "both"
    """both: audio and image; audio or image: that one alone."""
    features: Features = "encoder"
    """The features of a frame. encoder: tokens before the joint blocks (which stay unused); joint: tokens after the
    joint blocks and `norm`, audio and image in one sequence; own: tokens after the joint blocks with the modality's
    own norms, as retrieval compares them; joint-and-own: the mean of both, without learned tokens (CAV-MAE's
    "missing" modes, for a model of both modalities that is given one)."""
    pooling: Pooling = "global"
    """global: the global token, or the mean of a model without one; mean: the mean of all tokens (of own features:
    of the patches)."""
    attention_depth: int = 2
    """Blocks of the attention head, with as many heads as the encoders' blocks."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, wanted = getattr(self, field.name), int if field.name not in _CLASSIFIER_CHOICES else str
            if type(value) is not wanted:
                raise ModelConfigError(f"{field.name}={value!r} must be of type {wanted.__name__}")
        for name, choices in _CLASSIFIER_CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ModelConfigError(
                    f"{name}={getattr(self, name)!r} must be one of {', '.join(get_args(choices))}"
                )
        for name in ("num_classes", "attention_depth"):
            if getattr(self, name) < 1:
                raise ModelConfigError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.features == "joint-and-own" and self.modality == "both":
            raise ModelConfigError(
                'features="joint-and-own" takes one modality: set modality="audio" or "image"'
            )

    @property
    def vectors_per_frame(self) -> int:
        """2 where audio and image are concatenated, 1 where they share a vector."""
        return 2 if self.modality == "both" and self.features != "joint" else 1


def attention_probe(num_classes: int, modality: Modality = "both") -> ClassifierConfig:
    """CAV-MAE Sync's `self_attention_cls` head on the features that its fine-tuning class computes."""
    if modality == "both":
        return ClassifierConfig(num_classes=num_classes)
    return ClassifierConfig(num_classes=num_classes, modality=modality, features="joint", pooling="mean")


def linear_probe(num_classes: int, modality: Modality = "both") -> ClassifierConfig:
    """A linear layer on the embeddings that retrieval compares; neither paper has one."""
    return ClassifierConfig(num_classes=num_classes, modality=modality, head="linear", features="own")


def cavmae_finetuning(num_classes: int, modality: Modality = "both") -> ClassifierConfig:
    """CAV-MAE's fine-tuned classifier: the mean of all tokens, then a norm and a linear layer."""
    features: Features = "joint" if modality == "both" else "own"
    return ClassifierConfig(
        num_classes=num_classes, modality=modality, head="mlp", features=features, pooling="mean"
    )


def sync_finetuning(num_classes: int, modality: Modality = "both") -> ClassifierConfig:
    """CAV-MAE Sync's class without aggregation: the global token after the joint block.

    Upstream crashes on both modalities together; they are joined as in CAV-MAE here.
    """
    if modality == "both":
        return cavmae_finetuning(num_classes)
    return ClassifierConfig(num_classes=num_classes, modality=modality, head="mlp", features="joint")
