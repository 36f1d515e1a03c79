"""What the GPU benchmarks share: which device, its clock, its memory."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable

import torch

from herdling.train.metrics import peak_memory


def wanted_device(name: str) -> torch.device:
    """Return the device of this name; ends the process with code 2 where it is not."""
    if name == "cuda" and not torch.cuda.is_available():
        print("needs a CUDA device; found none (--device cpu --quick tries the script itself)", file=sys.stderr)
        sys.exit(2)
    return torch.device(name)


def forget(device: torch.device) -> None:
    """Give back all memory of what is no longer used, and begin the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of a call, in seconds, after one that does not count; waits for the device."""
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def peak_mib(device: torch.device) -> int:
    """Return the peak memory since `forget` on a GPU, of the whole process on a CPU, in MiB."""
    return round(peak_memory(device) / 2**20)
