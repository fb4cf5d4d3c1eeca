"""Proves that work on a device is queued without waiting for it: whatever would read a result there is an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Of a tensor on a GPU, each of these waits for all work in its queue: to read a value or a size that depends on
# values, or to copy numbers of Python there.
WAITING = (
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2"),
    *("lift_fresh", "item"),
)
READING = ("tolist", "numpy", "cpu", "__array__", "item", "__bool__", "__float__", "__int__", "__index__")


@contextmanager
def nothing_read(device: torch.device) -> Iterator[None]:
    """Within it, whatever makes the host wait for `device` raises.

    On a GPU torch itself watches; on the CPU the operations that would wait on a GPU are refused.
    """
    if device.type == "cuda":
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
        return
    with pytest.MonkeyPatch.context() as patch, _Refusing():
        for name in READING:
            patch.setattr(torch.Tensor, name, _refused(name))
        yield


class _Refusing(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function.overloadpacket.__name__ in WAITING:
            raise AssertionError(f"{function} would wait for the device")
        return function(*arguments, **(options or {}))


def _refused(name: str) -> Any:
    def read(*_: Any, **__: Any) -> Any:
        raise AssertionError(f"Tensor.{name} would wait for the device")

    return read
