"""How long GPUs exchange: tensor, context and pipeline parallel for a layer and micro-batch, weights and gradients among the copies. In seconds. No torch.

Bytes over the line's rate of the group (`hardware.Gpu.group_gb_per_s`), in bfloat16; what of it software hides is told by `Stack` and `Efficiency`.
"""

from __future__ import annotations

from herdling.plan.hardware import Gpu
from herdling.plan.memory import layer_parameters
from herdling.plan.split import Job, Split, Stack


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
