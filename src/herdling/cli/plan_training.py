"""A plan of training, found and described: the splits of a cluster as plain data, the lines that start it, and its picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from herdling.base.artifact import write_text_atomic
from herdling.base.errors import SettingsError
from herdling.cli.plan_recipe import recipe_lines
from herdling.plan.communication import step_bytes
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.layout import Candidate, Search, least_cluster, search, torchrun_lines
from herdling.plan.memory import Memory
from herdling.plan.split import Job, Stack
from herdling.plan.throughput import cost, flops_per_token, generation_seconds

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "cache", "reserve")
GROUPS = ("tp", "cp", "pp", "dp", "micro_batch", "virtual_stages", "recompute", "sharding")
TIMES = ("compute", "memory", "communication", "bubble", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What was asked and what was found: the first splits as plain data too, and how to start the fastest."""

    job: Job
    name: str
    num_gpus: int
    gpu: Gpu
    found: Search
    described: list[dict[str, Any]]
    command: str
    recipe: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for a program."""
        return {
            "model": self.name,
            "gpus": self.num_gpus,
            "gpu": self.gpu.name,
            "splits": self.described,
            "refused": self.found.refused,
            "command": self.command,
            "recipe": self.recipe,
        }


def plan_training(
    job: Job, name: str, num_gpus: int, gpu: Gpu, stack: Stack, *, purpose: str, top: int, tokens: int | None, efficiency: Efficiency | None = None
) -> Planned:
    """Search all splits of a cluster, by the shipped scalars or by a machine's own. Raises `SettingsError`, with the least cluster, where none fits."""
    found = search(job, num_gpus, gpu, stack, efficiency)
    if not found.candidates:
        raise SettingsError(nowhere(job, name, num_gpus, gpu, stack, found))
    return Planned(
        job=job,
        name=name,
        num_gpus=num_gpus,
        gpu=gpu,
        found=found,
        described=[describe(one, job, num_gpus, gpu, stack, tokens) for one in found.candidates[:top]],
        command=torchrun_lines(num_gpus, gpu),
        recipe=recipe_lines(job, found.candidates[0].split, name, purpose, tokens),
    )


def describe(one: Candidate, job: Job, num_gpus: int, gpu: Gpu, stack: Stack, tokens: int | None) -> dict[str, Any]:
    """Return a candidate as plain data."""
    split, step = one.split, one.forecast
    described = {name: getattr(split, name) for name in GROUPS}
    described |= {"memory_gib": in_gib(one.memory), "step_seconds": step.seconds, "step_seconds_interval": [step.low, step.high]}
    described |= {"parts_seconds": {name: getattr(step, name) for name in TIMES}}
    described |= {"sent_gb": {kind: volume / 1e9 for kind, volume in step_bytes(job, split, stack).items()}}
    described |= {"tokens_per_s_per_gpu": step.tokens_per_s_per_gpu, "mfu_causal": step.mfu_causal, "mfu_full": step.mfu_full}
    described |= {"flops_per_token_causal": flops_per_token(job, "causal"), "flops_per_token_full": flops_per_token(job, "full")}
    writing = generation_seconds(job, split, gpu) if job.trained_models > 1 else 0.0
    if writing:
        described |= {"generation_seconds": writing}
    if tokens:
        seconds = (step.seconds + writing) * tokens / job.tokens
        dollars, kilowatt_hours = cost(seconds, num_gpus, gpu)
        described |= {
            "run": {"tokens": tokens, "seconds": seconds, "gpu_hours": seconds * num_gpus / 3600, "dollars": dollars, "kilowatt_hours": kilowatt_hours}
        }
    return described


def in_gib(memory: Memory) -> dict[str, float]:
    """Return the parts of a memory that are not nothing, and their total, in GiB."""
    parts = {name: value / 2**30 for name, value in asdict(memory).items() if name in PARTS and value}
    return parts | {"total": memory.total / 2**30}


def nowhere(job: Job, name: str, num_gpus: int, gpu: Gpu, stack: Stack, found: Search) -> str:
    """Return why no split of a cluster fits, and the least cluster that one does."""
    reasons = "; ".join(f"{reason} ({count} splits)" for reason, count in found.refused.most_common(3))
    said = f"{name} on {num_gpus:,} x {gpu.name}: no split fits: {reasons}"
    if found.least_gib == float("inf"):
        return f"{said}; {_rows(job)} of {job.seq_len:,} tokens cannot be shared so. Change --gpus, --batch or --seq-len"
    least = least_cluster(job, gpu, stack)
    advice = f"the least cluster is {least:,} x {gpu.name}" if least else f"no cluster of {gpu.name} up to 131,072 holds it"
    return f"{said}; the leanest split needs {found.least_gib:.0f} GiB a GPU, there are {gpu.memory_gib:.0f}; {advice}. Change --gpus, --gpu or --seq-len"


def _rows(job: Job) -> str:
    return "1 row" if job.global_batch == 1 else f"{job.global_batch:,} rows"


def write_picture(planned: Planned, path: Path) -> None:
    """Draw memory and one step of a plan."""
    from herdling.report.plan_picture import plan_picture

    drawn = plan_picture(planned.job, planned.gpu, planned.found.candidates, f"{Path(planned.name).name} on {planned.num_gpus:,} x {planned.gpu.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, drawn)
    except OSError as error:
        raise SettingsError(f"--picture {path}: cannot be written ({error.strerror or error}). Name another file") from None
