"""What this machine reaches at its best: matrix products, attention, memory, and exchange between several GPUs. Costs a second or two.

Each figure is the best of some tries, for others on the machine only ever add time. On CUDA they take the place of what `plan/hardware.py` has for the GPU by
its name; that path was written without a GPU at hand, the CPU's runs in the tests.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.multiprocessing.spawn import start_processes

from herdling.model.attention import self_attention
from herdling.model.precision import Device
from herdling.plan.gpu_names import gpu_of
from herdling.plan.hardware import MEASURED_SHARE, Gpu

PRODUCT_SIZES = {"cpu": (256, 1024), "cuda": (4096, 8192, 16_384), "mps": (1024, 4096)}
MEMORY_BYTES = {"cpu": 128 * 2**20, "cuda": 4 * 2**30, "mps": 2**30}
ATTENTION = {"cpu": (8, 4, 256, 32), "cuda": (2, 32, 8192, 128), "mps": (2, 8, 1024, 64)}
"""Rows, heads, length, width of a head."""
EXCHANGE_BYTES = 256 * 2**20


def measure_ceilings(device: Device, *, tries: int = 5) -> dict[str, float]:
    """Return name -> FLOP/s (`product TYPE SIZE`, `attention`) or bytes/s (`memory`, and `exchange` between several GPUs)."""
    kind = device.device.type
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        for size in PRODUCT_SIZES[kind]:
            left = torch.ones(size, size, device=device.device).to(dtype)
            seconds = _least_seconds(partial(torch.matmul, left, left), device.device, tries)
            found[f"product {str(dtype).removeprefix('torch.')} {size}"] = 2 * size**3 / seconds
    found["attention"] = _attention_rate(device, tries)
    held = torch.ones(MEMORY_BYTES[kind] // 4, device=device.device)
    target = torch.empty_like(held)
    found["memory"] = 2 * MEMORY_BYTES[kind] / _least_seconds(partial(target.copy_, held), device.device, tries)
    if kind == "cuda" and torch.cuda.device_count() > 1:
        found["exchange"] = exchange_rate("cuda", torch.cuda.device_count())
    return found


def product_rate(ceilings: Mapping[str, float], dtype: str) -> float:
    """Return the FLOP/s of the largest products in a type."""
    return max(rate for name, rate in ceilings.items() if name.startswith(f"product {dtype} "))


def measured_gpu(name: str, memory_gib: float, ceilings: Mapping[str, float]) -> Gpu:
    """Return the GPU that a driver calls by this name, with what was measured in place of what is known; of an unknown one, what was measured."""
    products = product_rate(ceilings, "bfloat16") / 1e12
    measured = {"memory_gib": memory_gib, "matmul_tflops": products, "fast_attention_tflops": None}
    measured |= {"attention_tflops": ceilings["attention"] / 1e12, "hbm_gb_per_s": ceilings["memory"] / 1e9}
    link = ceilings.get("exchange", 0.0) / 1e9
    known = gpu_of(name)
    if known is not None:
        return replace(known, **measured, **({"link_gb_per_s": link} if link else {}))  # type: ignore[arg-type]
    return Gpu(name=name, datasheet_tflops=products / MEASURED_SHARE, link_gb_per_s=link or 32.0, **measured)  # type: ignore[arg-type]


def _attention_rate(device: Device, tries: int) -> float:
    """Return the FLOP/s of causal attention, forward and backward: half of 4 products forward, two and a half times that backward."""
    rows, heads, length, width = ATTENTION[device.device.type]
    parts = [torch.ones(rows, heads, length, width, device=device.device, dtype=device.dtype, requires_grad=True) for _ in range(3)]
    attend = self_attention(None, length, device.device)

    def both() -> None:
        torch.autograd.backward(attend(0, *parts).sum())

    return 3.5 * 2 * rows * heads * length**2 * width / _least_seconds(both, device.device, tries)


def exchange_rate(kind: str, ranks: int, *, num_bytes: int = EXCHANGE_BYTES, tries: int = 5) -> float:
    """Return the bytes/s that each of so many processes (one a GPU) sends and receives in an all-reduce: volume 2 (n - 1) / n of the tensor by the ring."""
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_exchange, (kind, ranks, num_bytes, tries, folder), nprocs=ranks, start_method="spawn")
        seconds = max(float(path.read_text(encoding="utf-8")) for path in Path(folder).glob("seconds-*"))
    return 2 * (ranks - 1) / ranks * num_bytes / seconds


def _exchange(rank: int, kind: str, ranks: int, num_bytes: int, tries: int, folder: str) -> None:
    """Be one of the processes that exchange."""
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    held = torch.ones(num_bytes // 4, device=device)
    seconds = _least_seconds(lambda: torch.distributed.all_reduce(held), device, tries)
    (Path(folder) / f"seconds-{rank}").write_text(str(seconds), encoding="utf-8")
    torch.distributed.destroy_process_group()


def _least_seconds(work: Callable[[], object], device: torch.device, tries: int) -> float:
    """Return the least time of some tries, after one that does not count."""
    least = float("inf")
    for number in range(tries + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if number:
            least = min(least, time.perf_counter() - started)
    return least


def _wait(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
