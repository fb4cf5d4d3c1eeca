"""Batches that travel to the device while it computes the step before."""

from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor

Batch = dict[str, Any]


def on_device(batches: Iterator[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """The same batches in the same order, with their tensors on `device`; on the CPU they are passed on as they are.

    On a GPU, tensors in pinned memory are copied by a stream of their own. The host is a step ahead of the device, so
    the copy runs beside that step; the step that needs the batch waits for it on the device.
    """
    if device.type != "cuda":
        yield from batches
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(copying):
            copied = {name: _copied(value, device) for name, value in batch.items()}
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        for value in copied.values():
            if isinstance(value, Tensor):
                value.record_stream(
                    computing
                )  # the allocator must not give it away before that stream is done
        yield copied


def _copied(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
