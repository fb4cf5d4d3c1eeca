"""Which way of computing attention trains faster on this CPU: torch's fused one, or plain products, by number of tokens.

    python -m benchmarks.attention [--rounds N]

Forward and backward of a layer's attention at the paper's sizes, one thread, CPU time. `model/blocks.py` chooses by what
this table showed on some processors.
"""

from collections.abc import Callable
from functools import partial

import torch
import typer
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.support import results, timing
from cavsync.model.blocks import attention_in_products

BATCH_SIZE, ENCODER, DECODER = 8, (12, 64), (16, 32)  # heads, channels of each
# The tokens that an encoder keeps of an image, both encoders together, a whole audio segment; and all that a decoder sees.
SIZES = [(58, ENCODER), (101, ENCODER), (217, ENCODER), (404, DECODER)]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def main(rounds: int = 5) -> None:
    torch.set_num_threads(1)
    rows = []
    for precision in (torch.float32, torch.bfloat16):
        for num_tokens, layer in SIZES:
            rows += _rows(num_tokens, layer, precision, rounds)
    level = torch.backends.cpu.get_cpu_capability()
    results.publish("attention", f"Attention, forward and backward, batch {BATCH_SIZE}, {level}", rows)


def _rows(num_tokens: int, layer: tuple[int, int], precision: torch.dtype, rounds: int) -> list[results.Row]:
    heads, channels = layer
    generator = torch.Generator().manual_seed(0)
    size = (BATCH_SIZE, num_tokens, 3, heads, channels)
    qkv = torch.randn(size, generator=generator).to(precision).requires_grad_()
    ways = {"fused": scaled_dot_product_attention, "products": attention_in_products}
    costs = timing.in_turns({name: partial(_train, way, qkv) for name, way in ways.items()}, rounds)
    what = f"{str(precision).removeprefix('torch.')}, {num_tokens} tokens, {heads} heads of {channels}"
    return [
        results.Row(
            what=f"{what}: {name}",
            values=[1000 * seconds for seconds in costs[name].cpu_s],
            unit="ms",
            ratio=timing.ratio(costs[name].cpu_s, costs["fused"].cpu_s),
            to="fused",
        )
        for name in ways
    ]


def _train(attend: Attend, qkv: Tensor) -> None:
    """`qkv` is (batch, tokens, 3, heads, channels), as a layer's product leaves it."""
    qkv.grad = None
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    attend(query, key, value).transpose(1, 2).flatten(2).float().sum().backward()


if __name__ == "__main__":
    typer.run(main)
