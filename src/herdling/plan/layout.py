"""Which split of a cluster trains fastest: every TP x CP x PP x DP x micro-batch x recompute that the model allows, and why the others do not. No torch.

Groups are nested in the order [TP, CP, PP, DP] (Llama 3, section 3.3.2): the innermost exchange most and stay inside a server. All combinations are tried, some
hundreds for 16,384 GPUs, in a tenth of a second. A split must leave `MARGIN` of the memory free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

from herdling.base.errors import SettingsError
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.memory import Memory, training_memory
from herdling.plan.split import Job, Recompute, Sharding, Split, Stack
from herdling.plan.throughput import Forecast, forecast

MARGIN = 0.03
"""Share of a GPU's memory that a chosen split leaves free: the memory model's own error."""
TROUBLE = 0.02
"""By how much a split must be faster to be worth another kind of parallelism."""
MAX_MICRO_BATCH = 16
GPUS_OF_A_SERVER = 8
SHARDINGS: tuple[Sharding, ...] = ("zero3",)
RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A split that can be run, with what it needs and takes."""

    split: Split
    memory: Memory
    forecast: Forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search found: candidates, fastest first, and how many splits were refused for which reason."""

    candidates: tuple[Candidate, ...]
    refused: Counter[str]
    least_gib: float
    """The least memory that any split of these GPUs would need on one of them."""


def search(
    job: Job,
    num_gpus: int,
    gpu: Gpu,
    stack: Stack | None = None,
    efficiency: Efficiency | None = None,
    *,
    shardings: Sequence[Sharding] = SHARDINGS,
    recomputes: Sequence[Recompute] = RECOMPUTES,
) -> Search:
    """Try all splits of a cluster; rank those that fit. Raises `SettingsError` for a cluster that cannot be."""
    if num_gpus < 1:
        raise SettingsError(f"a cluster of {num_gpus} GPUs; accepted: 1 or more")
    stack = stack or Stack()
    refused: Counter[str] = Counter()
    found, least = [], float("inf")
    for split in _groups(job, num_gpus, gpu, refused):
        for tried in _variants(job, split, shardings, recomputes, refused):
            memory = training_memory(job, tried, stack)
            least = min(least, memory.total)
            if memory.total > gpu.memory_gib * 2**30 * (1 - MARGIN):
                refused[f"needs more than the {gpu.memory_gib:.0f} GiB of a GPU"] += 1
                continue
            found.append(Candidate(split=tried, memory=memory, forecast=forecast(job, tried, stack, gpu, efficiency)))
    found.sort(key=lambda one: rank(one.split, one.forecast.seconds))
    return Search(candidates=tuple(found), refused=refused, least_gib=least / 2**30)


def rank(split: Split, seconds: float) -> float:
    """Return what splits are ranked by: step time, longer by `TROUBLE` for each kind of parallelism beyond data, for the forecast is not finer than that."""
    return seconds * (1 + TROUBLE) ** ((split.tp > 1) + (split.cp > 1) + (split.pp > 1))


def _groups(job: Job, num_gpus: int, gpu: Gpu, refused: Counter[str]) -> Iterator[Split]:
    """Yield the sizes of the groups that the model and the cluster allow."""
    model = job.model
    for tp in divisors(num_gpus):
        if tp > gpu.domain_size:
            refused[f"tensor parallel over more than the {gpu.domain_size} GPUs that NVLink joins"] += 1
            continue
        if model.num_attention_heads % tp or (model.num_key_value_heads % tp and tp % model.num_key_value_heads):
            refused["tensor parallel size that does not divide the heads"] += 1
            continue
        for cp in divisors(num_gpus // tp):
            if cp > 1 and job.seq_len // cp < 4096:
                refused["context parallel pieces of less than 4,096 tokens"] += 1
                continue
            for pp in divisors(num_gpus // tp // cp):
                if pp > model.num_hidden_layers:
                    refused["more pipeline stages than layers"] += 1
                elif job.global_batch % (num_gpus // (tp * cp * pp)):
                    refused["batch that the copies cannot share evenly"] += 1
                else:
                    yield Split(tp=tp, cp=cp, pp=pp, dp=num_gpus // (tp * cp * pp))


def _variants(job: Job, groups: Split, shardings: Sequence[Sharding], recomputes: Sequence[Recompute], refused: Counter[str]) -> Iterator[Split]:
    """Yield the micro-batches, chunks of layers, shardings and recomputations of one choice of groups."""
    rows = job.global_batch // groups.dp
    for micro_batch in (size for size in divisors(rows) if size <= MAX_MICRO_BATCH):
        if groups.pp > 1 and rows // micro_batch < groups.pp:
            refused["fewer micro-batches than pipeline stages"] += 1
            continue
        per_stage = max(1, job.model.num_hidden_layers // groups.pp)
        chunks = (1,) if groups.pp == 1 else tuple(sorted({1, 2, 4, per_stage} & set(range(1, per_stage + 1))))  # V of the interleaved schedule
        for virtual_stages in chunks:
            for sharding in shardings if groups.dp * groups.cp > 1 else ("none",):
                for recompute in recomputes:
                    yield replace(groups, micro_batch=micro_batch, virtual_stages=virtual_stages, sharding=sharding, recompute=recompute)


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, ascending."""
    small = [divisor for divisor in range(1, int(number**0.5) + 1) if number % divisor == 0]
    return small + [number // divisor for divisor in reversed(small) if divisor * divisor != number]


def least_cluster(job: Job, gpu: Gpu, stack: Stack | None = None, *, limit: int = 2**17) -> int | None:
    """Return the least number of GPUs, a power of two, that the job fits on, with as many rows as they need; None where not even `limit` do."""
    num_gpus = 1
    while num_gpus <= limit:
        if search(replace(job, global_batch=max(num_gpus, 2 ** ceil(log2(job.global_batch)))), num_gpus, gpu, stack, recomputes=("full",)).candidates:
            return num_gpus
        num_gpus *= 2
    return None


def torchrun_lines(num_gpus: int, gpu: Gpu, recipe: str = "RECIPE.toml") -> str:
    """Return the command that starts a run: on one GPU as it is, else the same on each server, of as many GPUs up to 8 as share the cluster evenly."""
    if num_gpus == 1:
        return f"herdling run {recipe}"
    per_server = max(size for size in divisors(num_gpus) if size <= min(gpu.domain_size, GPUS_OF_A_SERVER))
    where = "--standalone" if per_server == num_gpus else "--rdzv-backend c10d --rdzv-endpoint $HEAD_NODE:29500"
    return f"torchrun --nnodes {num_gpus // per_server} --nproc-per-node {per_server} {where} --no-python herdling run {recipe}"
