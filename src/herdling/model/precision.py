"""Ready a device for work: threads, the allocator, and the precision that is fastest without being wrong: each is probed, none assumed.

The probes cost about 0.2 s, once a process. The rules they follow:

- float32 products: "medium" may mean true float32 through another library (AMD: twice as fast, Intel without AMX: no faster) or bfloat16 (CPUs with AMX: wrong
  by 1e-3). The error decides, then the speed; two ways of about the same speed are one way, for their last bits differ and a coin must not choose them.
- bfloat16 weights on a CPU only where its products are at least 1.5 times as fast: with own units (AMX) they are 3 to 7 times as fast, without 0.1 to 0.6.
- Whatever is compared is timed in turn, many times, and by its least time: a neighbour on the machine then meets both ways and decides neither.
- glibc hands freed blocks back to the kernel and faults them in again, at every step: kept instead, a small model trains up to twice as fast.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from herdling.base.errors import ModelError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["auto", "float32", "bfloat16"]

FLOAT32_ERROR = 1e-5
"""The largest relative error of a product that is still float32's: 1e-6 is usual, bfloat16 has 3e-3."""
WORTH_BFLOAT16 = 1.5
"""How much faster bfloat16 products must be to be chosen: the rest of a step gains nothing from them."""
WORTH_MEDIUM = 1.4
"""How much faster "medium" products must be to be chosen: far from 1 (no difference) and from 2 (where it is worth it), so that noise does not decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where and in what precision a model computes."""

    device: torch.device
    dtype: torch.dtype
    """Of weights and activations; the optimizer keeps float32 masters beside bfloat16 weights."""
    threads: int
    matmul_precision: str
    """PyTorch's name for how float32 products are done; on a CPU "medium" only where it is as exact as float32."""


def prepare_device(device: DeviceName = "auto", dtype: DtypeName = "auto", threads: int | None = None) -> Device:
    """Set up this process for training or generating, before the first large tensor; changes the process's threads, allocator and product precision.

    `threads` None takes all cores that this process may use. "auto" takes CUDA, else MPS, else the CPU; bfloat16 where it is the faster.

    Raises:
        ModelError: the device is not on this machine.
    """
    chosen = _choose_device(device)
    keep_freed_memory()
    torch.set_num_threads(threads or num_cores())
    # CUDA: "high" is TensorFloat-32. The CPU is probed; MPS has one way only.
    precision = {"cuda": "high", "mps": "highest"}.get(chosen.type) or float32_precision()
    torch.set_float32_matmul_precision(precision)
    kind = _faster_dtype(chosen) if dtype == "auto" else getattr(torch, dtype)
    return Device(device=chosen, dtype=kind, threads=torch.get_num_threads(), matmul_precision=precision)


def _choose_device(name: str) -> torch.device:
    there = [kind for kind, is_there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()), ("cpu", True)) if is_there]
    if name != "auto" and name not in there:
        raise ModelError(f"device: {name!r} is not on this machine; accepted here: auto, {', '.join(there)}")
    return torch.device(there[0] if name == "auto" else name)


def num_cores() -> int:
    """Return how many cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _share[0]) if _share else allowed


_share: list[int] = []


def take_share(index: int, num_processes: int) -> int:
    """Keep this process to its share of the cores, beside others of the same work, and return how many these are; at least one.

    Two processes with all threads each wait for each other at every product: twenty times slower than one thread each. Where the system lets no process
    choose its cores (not Linux) only the threads are limited.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    share = max(1, len(cores) // num_processes)
    start = index * share % len(cores)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores[start : start + share])
    _share[:] = [share]
    torch.set_num_threads(share)
    return share


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next step. Returns False where there is no glibc: other allocators do so by themselves."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return bool(libc.mallopt(mmap_threshold, 2**31 - 1)) and bool(libc.mallopt(trim_threshold, 2**31 - 1))


@cache
def float32_precision() -> str:
    """Return "medium" where float32 products by that setting are exact and clearly faster on this CPU, else "highest"."""
    x, weight = _probe_operands(torch.float32)
    exact = x.double() @ weight.double().T
    before, ways = torch.get_float32_matmul_precision(), ("highest", "medium")
    try:
        torch.set_float32_matmul_precision("medium")
        error = float((F.linear(x, weight) - exact).abs().max() / exact.abs().max())
        if error >= FLOAT32_ERROR:
            return "highest"
        highest, medium = _seconds_in_turn([partial(_product, x, weight, precision) for precision in ways])
    finally:
        torch.set_float32_matmul_precision(before)
    return "medium" if highest > WORTH_MEDIUM * medium else "highest"


def _product(x: Tensor, weight: Tensor, precision: str) -> Tensor:
    torch.set_float32_matmul_precision(precision)
    return F.linear(x, weight)


@cache
def _faster_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "mps":
        return torch.float32
    float32, bfloat16 = _seconds_in_turn([partial(F.linear, *_probe_operands(dtype, 1024)) for dtype in (torch.float32, torch.bfloat16)])
    return torch.bfloat16 if float32 > WORTH_BFLOAT16 * bfloat16 else torch.float32


def matrix_peak(dtype: torch.dtype, *, size: int = 1024, repeats: int = 5) -> float:
    """Return the FLOP/s that this process's threads reach on `[size, size]` products on the CPU, now: the denominator of MFU."""
    x, weight = _probe_operands(dtype, size)
    return 2 * size**3 / _seconds_in_turn([partial(F.linear, x, weight)], repeats)[0]


def _probe_operands(dtype: torch.dtype, size: int = 512) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, size, size, generator=generator)
    return x.to(dtype), weight.to(dtype)


def _seconds_in_turn(ways: Sequence[Callable[[], object]], rounds: int = 20) -> list[float]:
    """Return the least time of each way over rounds that run all of them, after one round that does not count: others on the machine only ever add time."""
    least = [float("inf")] * len(ways)
    for round_index in range(rounds + 1):
        for index, work in enumerate(ways):
            start = time.perf_counter()
            work()
            if round_index:
                least[index] = min(least[index], time.perf_counter() - start)
    return least
