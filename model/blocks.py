"""Transformer blocks: (batch, tokens, dim) -> (batch, tokens, dim)."""

from typing import Literal

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from cavsync.model.config import PriorityDirection

ModalityLetter = Literal["a", "v"]
"""Audio or visual: the letter that ends upstream's parameter names."""
# Below so many tokens the backward of torch's fused attention takes three times as long as that of plain products, in
# bfloat16 on a processor with AVX-512's instructions for it and no AMX (a Zen 4, torch 2.14). In float32, and in
# bfloat16 on an AVX2 processor, the fused one is faster at any number of tokens. `benchmarks.attention` measures it.
PLAIN_BELOW_TOKENS = 200
HAS_SLOW_FUSED_BACKWARD = torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


class SelfAttention(Attention):
    """timm's attention, which computes its backward in the faster of two ways on a CPU."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no caller here has a mask
        """(batch, tokens, dim) -> (batch, tokens, dim)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # (batch, heads, tokens, dim of a head) each
        if self.fused_attn and not _is_faster_in_products(query):
            attended = scaled_dot_product_attention(query, key, value)
        else:
            attended = attention_in_products(query, key, value)
        projected: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


def attention_in_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What `scaled_dot_product_attention` computes of three (..., tokens, dim) tensors, up to rounding."""
    attended: Tensor = (query * query.shape[-1] ** -0.5 @ key.mT).softmax(dim=-1) @ value
    return attended


def _is_faster_in_products(query: Tensor) -> bool:
    """Whether attention of a (batch, heads, tokens, dim) query, with its backward, is faster as plain products."""
    is_half_on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    return (
        is_half_on_cpu
        and HAS_SLOW_FUSED_BACKWARD
        and query.requires_grad
        and query.shape[-2] < PLAIN_BELOW_TOKENS
    )


class Block(nn.Module):
    """A pre-norm transformer block: attention, then an MLP, each with a residual connection."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        # nn.LayerNorm's own eps of 1e-5, where timm's ViT (and ImageNet MAE) has 1e-6.
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, num_heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> (batch, tokens, dim)."""
        return self._residual(x, self.norm1, self.norm2)

    def first_token(self, x: Tensor) -> Tensor:
        """The first token of `forward` alone, without the work of the others: (batch, tokens, dim) -> (batch, 1, dim)."""
        return self._first_residual(x, self.norm1, self.norm2)

    def _residual(self, x: Tensor, norm1: nn.LayerNorm, norm2: nn.LayerNorm) -> Tensor:
        x = x + self.attn(norm1(x))
        change: Tensor = self.mlp(norm2(x))
        return x + change

    def _first_residual(self, x: Tensor, norm1: nn.LayerNorm, norm2: nn.LayerNorm) -> Tensor:
        first = x[:, :1] + self._attention_of_first(norm1(x))
        change: Tensor = self.mlp(norm2(first))
        return first + change

    def _attention_of_first(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> (batch, 1, dim): the query of the first token, the keys and values of all."""
        dim, qkv = x.shape[-1], self.attn.qkv
        query = linear(x[:, :1], qkv.weight[:dim], qkv.bias[:dim])
        key, value = linear(x, qkv.weight[dim:], qkv.bias[dim:]).chunk(2, dim=-1)
        sizes = (len(x), -1, self.attn.num_heads, self.attn.head_dim)
        # (batch, heads, tokens, dim of a head) each
        query, key, value = (part.reshape(sizes).transpose(1, 2) for part in (query, key, value))
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        projected: Tensor = self.attn.proj(attended)
        return projected


class JointBlock(Block):
    """A block whose attention and MLP serve audio, images and both together, each with norms of its own."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__(dim, num_heads, mlp_ratio)
        self.norm1_a, self.norm2_a = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norm1_v, self.norm2_v = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, modality: ModalityLetter | None = None) -> Tensor:
        """(batch, tokens, dim) -> (batch, tokens, dim); `modality` selects the norms, None those of both together."""
        return self._residual(x, *self._norms(modality))

    def first_token(self, x: Tensor, modality: ModalityLetter | None = None) -> Tensor:
        """As `Block.first_token`: (batch, tokens, dim) -> (batch, 1, dim)."""
        return self._first_residual(x, *self._norms(modality))

    def global_attention(self, x: Tensor, modality: ModalityLetter, direction: PriorityDirection) -> Tensor:
        """Attention between the first token and every token, the mean over heads: (batch, tokens, dim) -> (batch, tokens).

        In float32, whatever precision the network runs in: half precision ranks many patches alike.
        """
        with torch.autocast(x.device.type, enabled=False):
            norm, _ = self._norms(modality)
            qkv = self.attn.qkv(norm(x.float())).unflatten(-1, (3, self.attn.num_heads, -1))
            query, key, _ = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, dim of a head) each
            if direction == "global-to-patch":
                query = query[:, :, :1]  # no other row of the map is used
            attention = (query * self.attn.scale @ key.mT).softmax(dim=-1)  # (batch, heads, queries, tokens)
            of_global: Tensor = attention[:, :, 0] if direction == "global-to-patch" else attention[..., 0]
            return of_global.mean(dim=1)

    def _norms(self, modality: ModalityLetter | None) -> tuple[nn.LayerNorm, nn.LayerNorm]:
        """Those before attention and before the MLP."""
        if modality is None:
            return self.norm1, self.norm2
        return (self.norm1_a, self.norm2_a) if modality == "a" else (self.norm1_v, self.norm2_v)
