"""The devices that a test runs on: always the CPU, and a GPU where there is one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")

on_each_device: Callable[..., pytest.MarkDecorator] = pytest.mark.parametrize(
    "device", [pytest.param(CPU, id="cpu"), pytest.param(CUDA, id="cuda", marks=pytest.mark.gpu)]
)


@contextmanager
def full_float32() -> Iterator[None]:
    """Matrix products and convolutions in float32 itself, not in TensorFloat32, which keeps ten bits of a mantissa."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
