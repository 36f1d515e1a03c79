"""Ready a device for work: threads, the allocator, and the precision that is fastest without being wrong, each probed rather than assumed."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from typing import Literal

import torch

from herdling.base.errors import ModelError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where and in what precision a model computes."""

    device: torch.device
    dtype: torch.dtype
    """Of weights and activations; the optimizer keeps float32 masters beside bfloat16 weights."""
    threads: int
    matmul_precision: str
    """PyTorch's name for how float32 products are done on the CPU; "medium" only where it is as exact as float32."""


def prepare_device(device: DeviceName = "auto", dtype: DtypeName = "auto", threads: int | None = None) -> Device:
    """Set up this process for training or generating, before the first large tensor."""
    chosen = _choose_device(device)
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    keep_freed_memory()
    kind = torch.float32 if dtype == "float32" or (dtype == "auto" and chosen.type == "mps") else torch.bfloat16
    return Device(device=chosen, dtype=kind, threads=torch.get_num_threads(), matmul_precision=torch.get_float32_matmul_precision())


def _choose_device(name: DeviceName) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name, False):
        raise ModelError(f"device {name!r} is not here; accepted on this machine: auto, {', '.join(kind for kind, there in available.items() if there)}")
    return torch.device(name)


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks instead of handing them back to the kernel and faulting them in again at every step. False where there is no glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    mmap_threshold, trim_threshold = -3, -1
    return bool(libc.mallopt(mmap_threshold, 2**31 - 1) and libc.mallopt(trim_threshold, 2**31 - 1))
