"""How long a step takes and what it costs: FLOPs in both conventions, communication, bubble, step time with an interval, MFU, energy, money. Imports no torch.

A roofline a layer: matrix products at a measured ceiling times an efficiency that falls with thin slices and few tokens, attention at its own, what is between
them at the memory's bandwidth, plus what communication and pipeline leave uncovered. The scalars of `Efficiency` were fitted to
published step times (docs/decisions/0071); `calibration` fits them to a machine's own. Not modelled: slow GPUs, a network that others use, loading of data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log2

from herdling.model.config import LlamaConfig
from herdling.plan.hardware import Gpu
from herdling.plan.memory import activation_bytes, layer_parameters, training_memory
from herdling.plan.split import Job, Split, Stack, layers_of_stages

ASYNC_TP = 0.3
"""What is left uncovered of tensor-parallel exchange where it is fused with the products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What of a machine's ceilings software reaches, as scalars that hold for all models and splits."""

    matmul: float = 1.0
    """Share of the matrix-product ceiling in bfloat16 for wide slices and many tokens."""
    low_precision: float = 1.0
    """The same in fp8 and fp4, as a share of `matmul`: scales and casts cost."""
    attention: float = 0.53
    """Share of the attention ceiling, of the causal half."""
    thin: float = 0.37
    """Loss where a rank's slice of the hidden size is 1,024: time grows by thin * 1024 / slice."""
    short: float = 0.34
    """Loss where a rank's micro-batch has 1,024 tokens: time grows by short * 1024 / tokens."""
    memory: float = 1.05
    """Passes over the activations at HBM speed, a forward and backward, as a multiple of writing and reading each three times."""
    tensor: float = 1.0
    """Share of tensor-parallel communication that is not covered."""
    overlap: float = 1.0
    """Share of the smaller of computing and gathering weights (FSDP) that is not covered by the larger."""
    data: float = 1.6
    """Share of once-a-step gradient communication that is not covered."""
    crowd: float = 0.12
    """By how much exchanges between nodes slow down each time the number of nodes doubles."""
    pressure: float = 0.06
    """Growth of the step where memory runs full: times what the use exceeds 90 % by, for then the allocator frees and asks again."""
    launch: float = 53e-6
    """Seconds a layer and micro-batch besides its work."""
    step: float = 0.058
    """Seconds a step besides its work."""
    spread: float = 0.28
    """Half width of the 90 % interval, in log step time: of publishers whose own steps were not fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A step's time by part, in seconds; `low` and `high` bound it with 90 %."""

    seconds: float
    low: float
    high: float
    compute: float
    memory: float
    communication: float
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
    layers = layers_of_stages(job.model.num_hidden_layers, split, balanced_ends=stack.balanced_ends)
    compute, memory, wires = layer_seconds(job, split, stack, gpu, efficiency)
    head = head_seconds(job, split, gpu, efficiency)
    stage_layers = max([*layers[:-1], layers[-1] + head / (compute + memory + wires)])  # in layers: the last stage has the loss as well
    busy = stage_layers * (compute + memory + wires)
    gathering = sharding_seconds(job, split, stack, gpu, stage_layers) * (1 + efficiency.crowd * log2(max(1.0, split.num_gpus / gpu.domain_size)))
    per_step = 0.0
    if split.sharding == "zero3" and split.pp == 1:  # gathered and reduced for each micro-batch, beside the computing
        uncovered = max(0.0, gathering - busy) + efficiency.overlap * min(busy, gathering)
        busy += uncovered
    else:
        uncovered = per_step = efficiency.data * gathering
    bubble = (split.pp - 1) / split.virtual_stages * busy
    parameters = (max(layers) * layer_parameters(job.model) + job.model.vocab_size * job.model.hidden_size) / split.tp
    optimizer = 30 * parameters / (1 if split.sharding == "none" else split.dp * split.cp) / (gpu.hbm_gb_per_s * 1e9)
    full = training_memory(job, split, stack).total / (gpu.memory_gib * 2**30)
    pressure = 1 + efficiency.pressure * min(0.2, max(0.0, full - 0.9))
    scoring = (job.trained_models + job.frozen_models) / 3 if job.frozen_models else 0.0  # a forward of each model before PPO's or DPO's step
    step = micro_batches * busy + bubble + per_step + optimizer
    times = pressure * (job.trained_models + scoring)
    seconds = times * step + efficiency.step
    rate = job.tokens / seconds / split.num_gpus
    share = rate * (job.trained_models + scoring) / (gpu.datasheet_tflops * 1e12)
    return Forecast(
        seconds=seconds,
        low=seconds * exp(-efficiency.spread),
        high=seconds * exp(efficiency.spread),
        compute=times * micro_batches * stage_layers * compute,
        memory=times * micro_batches * stage_layers * memory,
        communication=times * (micro_batches * (stage_layers * wires + (0.0 if per_step else uncovered)) + per_step),
        bubble=times * bubble,
        optimizer=times * optimizer + efficiency.step,
        tokens_per_s_per_gpu=rate,
        mfu_causal=share * flops_per_token(job, "causal"),
        mfu_full=share * flops_per_token(job, "full"),
    )


def layer_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu, efficiency: Efficiency) -> tuple[float, float, float]:
    """Return the seconds a layer takes for a micro-batch, forward and backward: computing, memory, and communication that is not covered."""
    model, tokens = job.model, split.tokens_per_micro_batch(job)
    passes = {"none": 3.0, "selective": 3.5, "full": 4.0}[split.recompute]
    slowness = 1 + efficiency.thin * 1024 * split.tp / model.hidden_size + efficiency.short * 1024 / tokens
    rate = gpu.ceiling(job.precision) * 1e12 * efficiency.matmul * (1 if job.precision == "bf16" else efficiency.low_precision)
    products = 2 * layer_parameters(model) / split.tp * tokens * passes / rate * slowness
    seen = job.seq_len if job.attended is None else job.attended
    attention_flops = 2 * seen * model.num_attention_heads * model.head_dim / split.tp * tokens  # the causal half of 4 * keys
    attention_rate = (stack.fast_attention and gpu.fast_attention_tflops) or gpu.attention_tflops
    attention_passes = 3.5 + (split.recompute == "full")  # flash attention's backward makes the scores again: 2.5 forwards
    attention = attention_flops * attention_passes / (attention_rate * 1e12 * efficiency.attention)
    kept, live = activation_bytes(job, split, stack)
    touched = kept if split.recompute == "none" else live
    memory = efficiency.memory * 2 * passes * touched * tokens / (gpu.hbm_gb_per_s * 1e9)
    exchange = tensor_seconds(job, split, gpu) * (ASYNC_TP if stack.async_tp else 1.0) + context_seconds(job, split, gpu)
    wires = efficiency.tensor * exchange
    return products + attention + efficiency.launch, memory, wires + pipeline_seconds(job, split, stack, gpu)


def head_seconds(job: Job, split: Split, gpu: Gpu, efficiency: Efficiency) -> float:
    """Return the seconds of output layer and loss for a micro-batch: a product in bfloat16, and reading and writing float32 logits."""
    logits = split.tokens_per_micro_batch(job) * job.model.vocab_size / split.tp
    return 6 * logits * job.model.hidden_size / (gpu.matmul_tflops * 1e12 * efficiency.matmul) + 30 * logits / (gpu.hbm_gb_per_s * 1e9)


def tensor_seconds(job: Job, split: Split, gpu: Gpu) -> float:
    """Return the seconds a layer's tensor-parallel exchange takes: 4 all-reduces of the hidden states, 6 where all is made again."""
    if split.tp == 1:
        return 0.0
    exchanges = 6 if split.recompute == "full" else 4
    volume = exchanges * 2 * (split.tp - 1) / split.tp * 2 * split.tokens_per_micro_batch(job) * job.model.hidden_size
    return volume / (gpu.group_gb_per_s(split.tp) * 1e9)


def context_seconds(job: Job, split: Split, gpu: Gpu) -> float:
    """Return the seconds a layer's context-parallel exchange takes: keys and values gathered forward and backward, their gradients reduced (Llama 3, 3.3.2)."""
    if split.cp == 1:
        return 0.0
    keys = 2 * job.model.num_key_value_heads * job.model.head_dim / split.tp
    volume = 3 * 2 * keys * split.tokens_per_micro_batch(job) * (split.cp - 1)
    return volume / (gpu.group_gb_per_s(split.cp, split.tp) * 1e9)


def pipeline_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu) -> float:
    """Return the seconds, spread over layers, to pass hidden states and their gradients on, once for each chunk of layers."""
    if split.pp == 1:
        return 0.0
    volume = 2 * 2 * split.tokens_per_micro_batch(job) * job.model.hidden_size / (split.tp if split.sequence_parallel else 1) * split.virtual_stages
    return (
        volume / (gpu.group_gb_per_s(split.pp, split.tp * split.cp * (1 if stack.data_outermost else split.dp)) * 1e9) * split.pp / job.model.num_hidden_layers
    )


def sharding_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu, stage_layers: float) -> float:
    """Return the seconds to gather weights and reduce gradients among the copies: a micro-batch under FSDP without a pipeline, else a step."""
    sharers = split.dp * split.cp
    if sharers == 1:
        return 0.0
    parameters = (stage_layers * layer_parameters(job.model) + job.model.vocab_size * job.model.hidden_size) / split.tp
    gathers = 2 if split.sharding == "zero3" and split.pp == 1 else 1
    volume = (2 * gathers + stack.gradient_bytes) * parameters * (sharers - 1) / sharers
    return volume / (gpu.group_gb_per_s(sharers, split.tp * (split.pp if stack.data_outermost else 1)) * 1e9)


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
