"""What `herdling plan` prints of the splits that it found: a table, the first in detail, why others were refused, and how to start."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from herdling.base.units import format_count, format_seconds
from herdling.cli.plan_training import PARTS, Planned

WIDTH = 130
"""Characters of the table, of a narrower terminal too."""
COLUMNS = ("TP", "CP", "PP", "DP", "rows", "chunks", "recompute", "GiB", "step (90 %)", "tokens/s/GPU", "MFU causal", "full")


def print_plan(planned: Planned) -> None:
    """Print the splits that were found, the first in detail, and why others were refused."""
    console = Console(highlight=False, markup=False, soft_wrap=True, width=max(WIDTH, Console().width))
    job, gpu = planned.job, planned.gpu
    batch = f"{format_count(job.tokens)} tokens a step in rows of {job.seq_len:,}"
    console.print(f"{planned.name}, {format_count(job.model.num_parameters())} parameters, on {planned.num_gpus:,} x {gpu.name}: {batch}")
    console.print(_table(planned.described))
    _print_first(console, planned.described[0], gpu.memory_gib)
    for reason, count in planned.found.refused.most_common():
        console.print(f"refused {count}: {reason}")
    splits = "" if planned.num_gpus == 1 else " a trainer that splits, on each server (herdling's own takes one GPU so far)"
    console.print(f"to start{splits}: {planned.command}\nwith, in the recipe:\n")
    console.print(planned.recipe)


def _table(described: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1))
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for one in described:
        low, high = one["step_seconds_interval"]
        table.add_row(
            *(str(one[name]) for name in ("tp", "cp", "pp", "dp", "micro_batch", "virtual_stages", "recompute")),
            f"{one['memory_gib']['total']:.1f}",
            f"{_seconds(one['step_seconds'])} ({_seconds(low)}-{_seconds(high)})",
            f"{one['tokens_per_s_per_gpu']:,.0f}",
            f"{one['mfu_causal']:.1%}",
            f"{one['mfu_full']:.1%}",
        )
    return table


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}s" if seconds >= 0.1 else f"{1000 * seconds:.1f}ms"


def _duration(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds >= 2 * 86400 else format_seconds(seconds)


def _print_first(console: Console, best: dict[str, Any], memory_gib: float) -> None:
    console.print(f"memory of the first, GiB a GPU (of {memory_gib:.0f}): " + memory_bar(best["memory_gib"], memory_gib))
    console.print("time of the first: " + ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in best["parts_seconds"].items()))
    if best["sent_gb"]:
        console.print("a GPU of the first sends in a step: " + ", ".join(f"{kind} {volume:,.1f} GB" for kind, volume in best["sent_gb"].items()))
    if "generation_seconds" in best:
        console.print(f"before each step the answers are written, half of each row: {best['generation_seconds']:.1f}s (assumed speeds, splits as in training)")
    if "run" in best:
        run = best["run"]
        money = f"{format_count(run['gpu_hours'])} GPU hours, ${format_count(run['dollars'])}, {format_count(run['kilowatt_hours'])} kWh"
        console.print(f"{format_count(run['tokens'])} tokens: {_duration(run['seconds'])}, {money}")


def memory_bar(parts: dict[str, float], available: float, width: int = 40) -> str:
    """Return a bar of the parts against the memory that there is, and what each takes."""
    marks = dict(zip(PARTS, "WGOALCR", strict=True))
    bar = "".join(marks[name] * round(parts.get(name, 0) / available * width) for name in PARTS)
    return f"|{bar:.<{width}}| " + ", ".join(f"{marks[name]} {name} {parts[name]:.1f}" for name in PARTS if name in parts)
