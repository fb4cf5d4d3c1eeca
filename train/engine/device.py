"""The device that a run computes on."""

import ctypes
import logging
import os
import platform
from typing import Any, get_args

import torch

from cavsync.errors import CavsyncError
from cavsync.train.choices import DeviceChoice, InferencePrecision
from cavsync.train.engine.config import Compile, Precision

logger = logging.getLogger(__name__)

DEVICE_CHOICES = get_args(DeviceChoice)
# What torch calls an x86 processor without matrix products in half precision. They are computed number by number
# there, several times slower than in float32 (measured: two full-size steps in more than 400 s, against 78 s).
WITHOUT_HALF_PRECISION = "AVX2"
# What compiling costs is won back in some hundred steps (an assumption: a minute or two, against a fifth of each step).
STEPS_WORTH_COMPILING = 1000
# Options of glibc's mallopt, by the numbers of its malloc.h. Arrays below the first size come from the heap (the largest
# value that it takes); what is free at the heap's end is returned beyond the second, of which a step of `tiny` needs less.
M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES = -3, 32 * 2**20
M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES = -1, 2**30


class DeviceError(CavsyncError):
    """A device that this machine does not offer."""


def choose_device(choice: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" means here; under torchrun each process of a node has its own GPU."""
    if choice not in DEVICE_CHOICES:
        raise DeviceError(f"There is no device {choice!r}; there are: {', '.join(DEVICE_CHOICES)}.")
    if choice == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "There is no usable CUDA device here. Use --device cpu, or auto to take what there is."
        )
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return _gpu_of_process(int(os.environ.get("LOCAL_RANK", "0")))


def _gpu_of_process(number: int) -> torch.device:
    if number >= torch.cuda.device_count():
        raise DeviceError(
            f"Process {number} of this node has no GPU: there are {torch.cuda.device_count()}. "
            "Start as many processes as GPUs: torchrun --nproc-per-node gpu."
        )
    torch.cuda.set_device(number)
    # float32 means float32: torch computes products so, and convolutions in TensorFloat32, of ten bits, unless told.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", number)


def resolved_compile(
    choice: Compile, device: torch.device, num_steps: int, *, is_small: bool = False
) -> Compile:
    """What "auto" means in a run of `num_steps` on `device`; any other `choice` is the user's.

    A model that `is_small`, a head alone, has too little work to be worth compiling.
    """
    if choice != "auto":
        return choice
    return device.type == "cuda" and num_steps >= STEPS_WORTH_COMPILING and not is_small


def compile_options(choice: Compile) -> dict[str, Any] | None:
    """The arguments of torch.compile for a resolved `choice`; None where nothing is compiled."""
    if choice == "reduce-overhead":
        return {"mode": choice}
    return {} if choice is True else None


def begin_step(choice: Compile) -> None:
    """Called before the first forward of a step: what CUDA graphs computed in the step before may be overwritten."""
    if choice == "reduce-overhead":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def keep_freed_memory(device: torch.device) -> None:
    """On a CPU, let glibc keep up to a gigabyte that a step frees for the next one.

    By default it gives large arrays back, and the system clears each of their pages when it hands them out again: an
    eighth of a step of the preset `tiny`. Other C libraries have no such option, and are left alone.
    """
    if device.type == "cpu" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products in `precision`, a `Precision` of the configuration."""
    dtype = getattr(torch, precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not torch.float32)


def inference_precision(choice: InferencePrecision, device: torch.device) -> Precision:
    """The precision that "auto", "float32" or "bfloat16" means for a trained model on this device."""
    if choice != "auto":
        return choice
    return "bfloat16" if has_fast_bfloat16(device) else "float32"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether it has instructions for products in bfloat16: GPUs from Ampere on, x86 with AMX or AVX512-BF16.

    Of other processors nothing was measured; without such instructions float32 is faster.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Both exist in every torch that is allowed; the public `torch.cpu.get_capabilities` only in later ones.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def warn_of_slow_precision(
    device: torch.device, precision: str, way_out: str = "--set precision=float32"
) -> None:
    """Log the `way_out` where this processor emulates the `Precision`."""
    level = torch.backends.cpu.get_cpu_capability()
    if device.type == "cpu" and precision != "float32" and level == WITHOUT_HALF_PRECISION:
        logger.warning(
            "precision=%s is slow on this processor (%s), which has no instructions for it: %s.",
            precision,
            level,
            way_out,
        )
