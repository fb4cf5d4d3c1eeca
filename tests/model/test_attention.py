"""Proves that both ways of computing attention give the same numbers, and which one is taken where."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cavsync.model import blocks
from cavsync.model.blocks import PLAIN_BELOW_TOKENS, SelfAttention

DIM, NUM_HEADS = 32, 4


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of each call of torch's fused attention."""
    calls: list[int] = []
    fused = blocks.scaled_dot_product_attention

    def counted(query: Tensor, *others: Tensor) -> Tensor:
        calls.append(query.shape[-2])
        return fused(query, *others)

    monkeypatch.setattr(blocks, "scaled_dot_product_attention", counted)
    return calls


def attention() -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(DIM, NUM_HEADS, qkv_bias=True)


def tokens(count: int) -> Tensor:
    return torch.randn(2, count, DIM, generator=torch.Generator().manual_seed(1))


def output_and_gradient(module: SelfAttention, x: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    module.zero_grad()
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        out = module(x)
    out.float().square().sum().backward()
    return out.detach().float(), torch.cat([one.grad.flatten() for one in module.parameters()])


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


# Half a unit in the last place of eight and of 24 bits, some operations long.
@pytest.mark.parametrize(("precision", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_both_ways_are_within_rounding_of_float64(precision: torch.dtype, bound: float) -> None:
    module, x = attention(), tokens(7)
    exact = output_and_gradient(attention().double(), x.double(), torch.float64)
    for is_fused in (True, False):
        module.fused_attn = is_fused
        for ours, one in zip(output_and_gradient(module, x, precision), exact, strict=True):
            assert distance(ours, one) < bound


@pytest.mark.parametrize(
    ("precision", "has_slow_backward", "count", "is_training", "is_fused"),
    [
        (torch.bfloat16, True, PLAIN_BELOW_TOKENS - 1, True, False),
        (torch.bfloat16, True, PLAIN_BELOW_TOKENS, True, True),
        (torch.bfloat16, True, 8, False, True),  # no backward follows
        (torch.bfloat16, False, 8, True, True),
        (torch.float32, True, 8, True, True),
    ],
)
def test_products_are_taken_where_their_backward_is_faster(
    precision: torch.dtype,
    has_slow_backward: bool,
    count: int,
    is_training: bool,
    is_fused: bool,
    fused_calls: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "HAS_SLOW_FUSED_BACKWARD", has_slow_backward)
    with (
        torch.set_grad_enabled(is_training),
        torch.autocast("cpu", precision, enabled=precision == torch.bfloat16),
    ):
        attention()(tokens(count))
    assert fused_calls == ([count] if is_fused else [])


def test_timms_attention_has_the_same_bits(fused_calls: list[int]) -> None:
    from timm.layers.attention import Attention

    ours, x = attention(), tokens(9)
    theirs: Any = Attention(DIM, NUM_HEADS, qkv_bias=True)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))
    ours.fused_attn = theirs.fused_attn = False
    assert torch.equal(ours(x), theirs(x))
    assert fused_calls == [9]
