"""What `herdling plan` says of the splits that it found: as plain data for a program, as a table for a reader, and why nothing fits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from herdling.base.units import format_count, format_seconds
from herdling.plan.hardware import Gpu
from herdling.plan.layout import Candidate, Search, least_cluster
from herdling.plan.memory import Memory
from herdling.plan.split import Job, Stack
from herdling.plan.throughput import cost, flops_per_token, generation_seconds

WIDTH = 130
"""Characters of the table, of a narrower terminal too."""
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "cache", "reserve")


def describe(one: Candidate, job: Job, gpus: int, gpu: Gpu, tokens: int | None) -> dict[str, Any]:
    """Return a candidate as plain data."""
    split, step = one.split, one.forecast
    described = {name: getattr(split, name) for name in ("tp", "cp", "pp", "dp", "micro_batch", "virtual_stages", "recompute", "sharding")}
    described |= {"memory_gib": in_gib(one.memory), "step_seconds": step.seconds, "step_seconds_interval": [step.low, step.high]}
    described |= {"parts_seconds": {name: getattr(step, name) for name in ("compute", "memory", "communication", "bubble", "optimizer")}}
    described |= {"tokens_per_s_per_gpu": step.tokens_per_s_per_gpu, "mfu_causal": step.mfu_causal, "mfu_full": step.mfu_full}
    described |= {"flops_per_token_causal": flops_per_token(job, "causal"), "flops_per_token_full": flops_per_token(job, "full")}
    writing = generation_seconds(job, split, gpu) if job.trained_models > 1 else 0.0
    if writing:
        described |= {"generation_seconds": writing}
    if tokens:
        seconds = (step.seconds + writing) * tokens / job.tokens
        dollars, kilowatt_hours = cost(seconds, gpus, gpu)
        described |= {"run": {"tokens": tokens, "seconds": seconds, "gpu_hours": seconds * gpus / 3600, "dollars": dollars, "kilowatt_hours": kilowatt_hours}}
    return described


def in_gib(memory: Memory) -> dict[str, float]:
    """Return the parts of a memory that are not nothing, and their total, in GiB."""
    parts = {name: value / 2**30 for name, value in asdict(memory).items() if name in PARTS and value}
    return parts | {"total": memory.total / 2**30}


def nowhere(job: Job, model: str, gpus: int, gpu: Gpu, stack: Stack, found: Search) -> str:
    """Return why no split of a cluster fits, and the least cluster that one does."""
    reasons = "; ".join(f"{reason} ({count} splits)" for reason, count in found.refused.most_common(3))
    said = f"{model} on {gpus:,} x {gpu.name}: no split fits: {reasons}"
    if found.least_gib == float("inf"):
        return f"{said}; {job.global_batch:,} rows of {job.seq_len:,} tokens do not go round. Change --gpus, --batch or --seq-len"
    least = least_cluster(job, gpu, stack)
    advice = f"the least cluster is {least} x {gpu.name}" if least else f"no cluster of {gpu.name} up to 131,072 holds it"
    return f"{said}; the leanest split needs {found.least_gib:.0f} GiB a GPU, there are {gpu.memory_gib:.0f}; {advice}. Change --gpus, --gpu or --seq-len"


def print_splits(job: Job, model: str, gpus: int, gpu: Gpu, found: Search, described: list[dict[str, Any]], command: str) -> None:
    """Print the splits that were found, the first in detail, and why others were refused."""
    console = Console(highlight=False, soft_wrap=True, width=max(WIDTH, Console().width))
    batch = f"{format_count(job.tokens)} tokens a step in rows of {job.seq_len:,}"
    console.print(f"{model}, {format_count(job.model.num_parameters())} parameters, on {gpus:,} x {gpu.name}: {batch}")
    table = Table(box=None, padding=(0, 1))
    for name in ("TP", "CP", "PP", "DP", "rows", "chunks", "recompute", "GiB", "step (90 %)", "tokens/s/GPU", "MFU causal", "full"):
        table.add_column(name, justify="right")
    for one in described:
        low, high = one["step_seconds_interval"]
        table.add_row(
            *(str(one[name]) for name in ("tp", "cp", "pp", "dp", "micro_batch", "virtual_stages", "recompute")),
            f"{one['memory_gib']['total']:.1f}",
            f"{one['step_seconds']:.2f}s ({low:.2f}-{high:.2f})",
            f"{one['tokens_per_s_per_gpu']:,.0f}",
            f"{one['mfu_causal']:.1%}",
            f"{one['mfu_full']:.1%}",
        )
    console.print(table)
    best = described[0]
    console.print(f"memory of the first, GiB a GPU (of {gpu.memory_gib:.0f}): " + memory_bar(best["memory_gib"], gpu.memory_gib))
    console.print("time of the first: " + ", ".join(f"{name} {seconds:.2f}s" for name, seconds in best["parts_seconds"].items()))
    if "generation_seconds" in best:
        console.print(f"before each step the answers are written, half of each row: {best['generation_seconds']:.1f}s (assumed speeds, splits as in training)")
    if "run" in best:
        run = best["run"]
        money = f"{format_count(run['gpu_hours'])} GPU hours, ${format_count(run['dollars'])}, {format_count(run['kilowatt_hours'])} kWh"
        console.print(f"{format_count(run['tokens'])} tokens: {format_seconds(run['seconds'])}, {money}")
    for reason, count in found.refused.most_common():
        console.print(f"refused {count}: {reason}")
    console.print(f"to start on each server, with a trainer that splits (herdling's own takes one GPU so far): {command}")


def memory_bar(parts: dict[str, float], available: float, width: int = 40) -> str:
    """Return a bar of the parts against the memory that there is, and what each takes."""
    marks = dict(zip(PARTS, "WGOALCR", strict=True))
    bar = "".join(marks[name] * round(parts.get(name, 0) / available * width) for name in PARTS)
    return f"|{bar:.<{width}}| " + ", ".join(f"{marks[name]} {name} {parts[name]:.1f}" for name in PARTS if name in parts)
