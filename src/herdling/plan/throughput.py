"""How long a step takes and what it costs: FLOPs in both conventions, step time by part with an interval, MFU, energy, money. Imports no torch.

A layer's roofline (`layer_time`) times layers and micro-batches, plus the pipeline's bubble, what the copies exchange, and the optimiser. Not modelled: slow
GPUs, a network that others use, loading of data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from herdling.model.config import LlamaConfig
from herdling.plan.communication import sharding_seconds
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.layer_time import crowding, head_seconds, layer_seconds
from herdling.plan.memory import layer_parameters, training_memory
from herdling.plan.split import Job, Split, Stack, layers_of_stages

OVERLAPPED = 0.4
"""What is left uncovered of the copies' exchange where it runs behind a micro-batch and the pipeline's bubble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A step's time by part, in seconds; `low` and `high` bound it with 90 %."""

    seconds: float
    low: float
    high: float
    compute: float
    memory: float
    communication: float
    exchange: float
    """What of `communication` comes once a step: among the copies, where it is not hidden."""
    bubble: float
    optimizer: float
    tokens_per_s_per_gpu: float
    mfu_causal: float
    """Useful FLOPs over the datasheet's bfloat16, attention counted by the causal half."""
    mfu_full: float
    """The same by the convention of most published MFU: all of the attention matrix."""


def flops_per_token(job: Job, convention: str = "causal") -> float:
    """Return the training FLOPs a token of the job; with document masks attention counts the mean length that it sees."""
    seen = job.seq_len if job.attended is None else job.attended
    none = job.model.flops_per_token(1, "full") - 12 * _attention_width(job.model)
    return none + _attention_width(job.model) * (12 * seen if convention == "full" else 6 * (seen + 1))


def _attention_width(model: LlamaConfig) -> int:
    return model.num_hidden_layers * model.num_attention_heads * model.head_dim


def forecast(job: Job, split: Split, stack: Stack, gpu: Gpu, efficiency: Efficiency | None = None) -> Forecast:
    """Return the time of one step. A `SettingsError` where the GPU lacks the precision."""
    efficiency = efficiency or Efficiency()
    micro_batches = split.micro_batches(job)
    compute, memory, wires = layer_seconds(job, split, stack, gpu, efficiency)
    layers = layers_of_stages(job.model.num_hidden_layers, split, balanced_ends=stack.balanced_ends)
    in_layers = head_seconds(job, split, gpu, efficiency) / (compute + memory + wires)
    stage_layers = max([*layers[:-1], layers[-1] + in_layers])  # the last stage has the loss as well
    busy = stage_layers * (compute + memory + wires)
    each, once = copies_seconds(job, split, stack, gpu, efficiency, stage_layers=stage_layers, busy=busy)
    bubble = (split.pp - 1) / split.virtual_stages * (busy + each)
    optimizer = optimizer_seconds(job, split, gpu, max(layers))
    scoring = (job.trained_models + job.frozen_models) / 3 if job.frozen_models else 0.0  # a forward of each model before PPO's or DPO's step
    times = pressure_of(job, split, stack, gpu, efficiency) * (job.trained_models + scoring)
    seconds = times * (micro_batches * (busy + each) + bubble + once + optimizer) + efficiency.step
    rate = job.tokens / seconds / split.num_gpus
    share = rate * (job.trained_models + scoring) / (gpu.datasheet_tflops * 1e12)
    return Forecast(
        seconds=seconds,
        low=seconds * exp(-efficiency.spread),
        high=seconds * exp(efficiency.spread),
        compute=times * micro_batches * stage_layers * compute,
        memory=times * micro_batches * stage_layers * memory,
        communication=times * (micro_batches * (stage_layers * wires + each) + once),
        exchange=times * once,
        bubble=times * bubble,
        optimizer=times * optimizer + efficiency.step,
        tokens_per_s_per_gpu=rate,
        mfu_causal=share * flops_per_token(job, "causal"),
        mfu_full=share * flops_per_token(job, "full"),
    )


def copies_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu, efficiency: Efficiency, *, stage_layers: float, busy: float) -> tuple[float, float]:
    """Return the uncovered seconds of what the copies exchange, for each micro-batch (FSDP without a pipeline) and once a step (all else).

    `busy` is a stage's time for a micro-batch. Software that overlaps hides a part behind one micro-batch and the bubble.
    """
    exchange = efficiency.data * sharding_seconds(job, split, stack, gpu, stage_layers) * crowding(split.num_gpus, gpu, efficiency)
    window = busy * (1 + (split.pp - 1) / split.virtual_stages)
    hidden = (1 - OVERLAPPED) * min(window, exchange) if stack.overlapped else 0.0
    if split.sharding == "zero3" and split.pp == 1:
        return max(0.0, exchange - busy) + efficiency.overlap * (min(busy, exchange) - hidden), 0.0
    return 0.0, exchange - hidden


def optimizer_seconds(job: Job, split: Split, gpu: Gpu, stage_layers: int) -> float:
    """Return the seconds of AdamW: 30 bytes a parameter through memory."""
    parameters = (stage_layers * layer_parameters(job.model) + job.model.vocab_size * job.model.hidden_size) / split.tp
    return 30 * parameters / (1 if split.sharding == "none" else split.dp * split.cp) / (gpu.hbm_gb_per_s * 1e9)


def pressure_of(job: Job, split: Split, stack: Stack, gpu: Gpu, efficiency: Efficiency) -> float:
    """Return by how much a step grows where memory runs full."""
    full = training_memory(job, split, stack).total / (gpu.memory_gib * 2**30)
    return 1 + efficiency.pressure * min(0.2, max(0.0, full - 0.9))


def decoding(model: LlamaConfig, gpu: Gpu, *, tp: int, pp: int, sequences: int, seq_len: int, weight_bytes: float = 2.0) -> tuple[float, float]:
    """Return the seconds of one token of every sequence and of reading the prompts: decoding is bound by memory, reading by products.

    `sequences` are decoded at once by the tp * pp GPUs, at a context of `seq_len`; 0.7 of HBM speed and half of the matrix ceiling are assumed, not fitted.
    """
    read = model.num_parameters() * weight_bytes / tp + model.kv_cache_bytes_per_token() * sequences * seq_len / min(tp, model.num_key_value_heads)
    exchange = 0.0 if tp == 1 else 2 * model.num_hidden_layers * 2 * 2 * sequences * model.hidden_size / (gpu.group_gb_per_s(tp) * 1e9)
    prompts = sequences * seq_len * model.flops_per_token(seq_len) / 3 / (tp * pp * gpu.matmul_tflops * 1e12 * 0.5)
    return read / (0.7 * gpu.hbm_gb_per_s * 1e9) + exchange, prompts


def generation_seconds(job: Job, split: Split, gpu: Gpu) -> float:
    """Return the seconds of writing the batch of PPO before its step: each copy decodes its rows at once, half of each row is the answer (assumed)."""
    sequences = max(1, round(job.global_batch / split.dp))
    token, prompts = decoding(job.model, gpu, tp=split.tp, pp=split.pp * split.cp, sequences=sequences, seq_len=max(1, job.seq_len // 2))
    return job.seq_len // 2 * token + prompts


def cost(seconds: float, num_gpus: int, gpu: Gpu) -> tuple[float, float]:
    """Return the dollars and the kilowatt hours of the GPUs alone for so many seconds."""
    hours = seconds / 3600 * num_gpus
    return hours * gpu.dollars_per_hour, hours * gpu.watts / 1000
