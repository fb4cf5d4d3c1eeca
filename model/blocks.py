"""Transformer blocks: tokens (batch, tokens, dim) in, tokens of the same shape out."""

from typing import Literal

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import Tensor, nn

Modality = Literal["a", "v"]
"""Audio, visual: the letters that end upstream's parameter names."""


class Block(nn.Module):
    """Attention, then an MLP, each on normalised tokens and added to them."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        # nn.LayerNorm's own eps of 1e-5, where timm's ViT (and ImageNet MAE) has 1e-6.
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        return self._residual(x, self.norm1, self.norm2)

    def _residual(self, x: Tensor, norm1: nn.LayerNorm, norm2: nn.LayerNorm) -> Tensor:
        x = x + self.attn(norm1(x))
        change: Tensor = self.mlp(norm2(x))
        return x + change


class JointBlock(Block):
    """A block with one attention and MLP for audio, for pictures and for both together, each with its norms."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__(dim, num_heads, mlp_ratio)
        self.norm1_a, self.norm2_a = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norm1_v, self.norm2_v = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, modality: Modality | None = None) -> Tensor:
        """`modality` says whose tokens come in; None is both."""
        if modality is None:
            return self._residual(x, self.norm1, self.norm2)
        if modality == "a":
            return self._residual(x, self.norm1_a, self.norm2_a)
        return self._residual(x, self.norm1_v, self.norm2_v)
