"""Transformer blocks: (batch, tokens, dim) -> (batch, tokens, dim)."""

from typing import Literal

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import Tensor, nn

ModalityLetter = Literal["a", "v"]
"""Audio or visual: the letter that ends upstream's parameter names."""


class Block(nn.Module):
    """A pre-norm transformer block: attention, then an MLP, each with a residual connection."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        # nn.LayerNorm's own eps of 1e-5, where timm's ViT (and ImageNet MAE) has 1e-6.
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> (batch, tokens, dim)."""
        return self._residual(x, self.norm1, self.norm2)

    def _residual(self, x: Tensor, norm1: nn.LayerNorm, norm2: nn.LayerNorm) -> Tensor:
        x = x + self.attn(norm1(x))
        change: Tensor = self.mlp(norm2(x))
        return x + change


class JointBlock(Block):
    """A block whose attention and MLP serve audio, images and both together, each with norms of its own."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__(dim, num_heads, mlp_ratio)
        self.norm1_a, self.norm2_a = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norm1_v, self.norm2_v = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, modality: ModalityLetter | None = None) -> Tensor:
        """(batch, tokens, dim) -> (batch, tokens, dim); `modality` selects the norms, None those of both together."""
        if modality is None:
            return self._residual(x, self.norm1, self.norm2)
        if modality == "a":
            return self._residual(x, self.norm1_a, self.norm2_a)
        return self._residual(x, self.norm1_v, self.norm2_v)
