"""What training says about itself: `metrics.jsonl` always, TensorBoard when it is installed, and honest speeds.

One line a step: {"split": "train", "step", "tokens", "loss", "lr", "grad_norm", "skipped", "supervised", "tokens_per_second", "data_wait", "seconds", ...}; one
line a source and validation: {"split": "validation", "step", "tokens", "source", "bits_per_byte"}. Values stay on the device until `flush`: a GPU is asked once
a second, not once a step. `tokens_per_second` counts tokens of documents (no padding) over the time since the last flush, without validation and checkpoints.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from herdling.base.artifact import write_text_atomic

METRICS = "metrics.jsonl"

# Dense bf16 peak in FLOP/s by the name the driver gives, from the makers' data sheets (without sparsity).
PEAK_FLOPS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def peak_flops(device: torch.device) -> float | None:
    """Return the device's dense bf16 peak in FLOP/s, or None where it is not known: then MFU is "n/a"."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_FLOPS.items() if known in name), None)


def peak_memory(device: torch.device) -> int:
    """Return the most memory used so far, in bytes: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class MetricsLog:
    """Appends to `metrics.jsonl` (and TensorBoard). What an interrupted run wrote after the step that is restored is cut."""

    def __init__(self, folder: Path, *, step: int) -> None:
        self.path = folder / METRICS
        if self.path.exists():
            _cut(self.path, step)
        self._tensorboard = _tensorboard(folder / "tensorboard", step)

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Append lines in one write, so that a kill leaves whole lines."""
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if self._tensorboard is not None:
            # A curve needs no more points than the screen has: of the steps that were held together the last is shown.
            for line in lines[-1:] if lines and lines[-1]["split"] == "train" else lines:
                self._show(line)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _show(self, line: Mapping[str, Any]) -> None:
        place = "/".join(str(line[part]) for part in ("split", "source") if part in line)
        for name, value in line.items():
            if isinstance(value, int | float) and name not in ("step", "tokens"):
                self._tensorboard.add_scalar(f"{place}/{name}", value, line["step"])


def _tensorboard(folder: Path, step: int) -> Any:
    """Return TensorBoard's writer, or None where it is not installed: it is a wish, not a need."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=step + 1)


def _cut(path: Path, step: int) -> None:
    """Keep the whole lines up to and including this step."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    write_text_atomic(path, "".join(kept))


class Meter:
    """Times a run and holds the values of its steps until they are flushed."""

    def __init__(
        self, *, flops_per_token: float | None, peak: float | None, flush_seconds: float = 0.5, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.flops_per_token, self.peak, self.flush_seconds, self.clock = flops_per_token, peak, flush_seconds, clock
        self.pending: list[tuple[dict[str, Any], list[str], Tensor]] = []
        self.total_tokens = self.total_steps = 0
        self.total_seconds = self.total_aside = self.total_waited = 0.0
        self._restart()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as waiting for data."""
        started = self.clock()
        yield
        self._waited += self.clock() - started

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Count the time within apart from training: validation, checkpoints."""
        started = self.clock()
        yield
        self._aside += self.clock() - started

    def add(self, facts: dict[str, Any], values: Mapping[str, Tensor], *, num_tokens: int) -> None:
        """Hold one step: plain facts, and scalars on the device."""
        self.pending.append((facts, list(values), torch.stack([value.detach().float() for value in values.values()])))
        self._tokens += num_tokens

    def due(self) -> bool:
        """Say whether it is time to flush."""
        return self.clock() - self._since >= self.flush_seconds

    def flush(self) -> list[dict[str, Any]]:
        """Bring the held values to the host, in one copy, and return them as lines."""
        if not self.pending:
            return []
        # JSON has no NaN: what is not finite is written as null.
        host = [value if math.isfinite(value) else None for value in torch.cat([values for _, _, values in self.pending]).tolist()]
        seconds = self.clock() - self._since  # after the copy: the device has finished these steps
        speeds = self._speeds(self._tokens, seconds - self._aside, self._waited)
        self.total_tokens, self.total_steps = self.total_tokens + self._tokens, self.total_steps + len(self.pending)
        self.total_seconds, self.total_aside, self.total_waited = self.total_seconds + seconds, self.total_aside + self._aside, self.total_waited + self._waited
        lines, start = [], 0
        for facts, names, _ in self.pending:
            lines.append({**facts, **dict(zip(names, host[start : start + len(names)], strict=True)), **speeds})
            start += len(names)
        self.pending = []
        self._restart()
        return lines

    def summary(self) -> dict[str, Any]:
        """Return the speeds of the whole run in this process: without and with the time spent aside."""
        speeds = self._speeds(self.total_tokens, self.total_seconds - self.total_aside, self.total_waited)
        whole = self.total_tokens / self.total_seconds if self.total_seconds else 0.0
        timed = {"steps": self.total_steps, "step_seconds": round(self.total_seconds - self.total_aside, 3), "aside_seconds": round(self.total_aside, 3)}
        return {**speeds, "tokens_per_second_with_validation": round(whole, 1), **timed}

    def _speeds(self, num_tokens: int, seconds: float, waited: float) -> dict[str, Any]:
        speed = num_tokens / seconds if seconds > 0 else 0.0
        known = self.peak is not None and self.flops_per_token is not None
        mfu = round(speed * (self.flops_per_token or 0.0) / (self.peak or 1.0), 4) if known else "n/a"
        return {"tokens_per_second": round(speed, 1), "data_wait": round(waited / seconds, 4) if seconds > 0 else 0.0, "mfu": mfu}

    def _restart(self) -> None:
        self._since = self.clock()
        self._tokens = 0
        self._waited = self._aside = 0.0
