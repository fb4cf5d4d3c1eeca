"""Heads: the vectors of a video's frames, (videos, frames, dim), to logits, (videos, answers, classes)."""

import torch
from torch import Tensor, nn

from cavsync.model.blocks import Block
from cavsync.model.classifier_config import ClassifierConfig
from cavsync.model.config import ModelConfig
from cavsync.model.encoder import TOKEN_STD, new_token


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
