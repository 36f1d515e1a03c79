"""What GPUs send each other and how long it takes: tensor, context and pipeline parallel for a layer and micro-batch, weights and gradients of the copies.

Bytes that a GPU sends in bfloat16 (gradients as the software keeps them), over the line's rate of the group (`hardware.Gpu.group_gb_per_s`); what of it
software hides is told by `Stack` and `Efficiency`. No torch.
"""

from __future__ import annotations

from herdling.plan.hardware import Gpu
from herdling.plan.memory import layer_parameters
from herdling.plan.split import Job, Split, Stack


def tensor_bytes(job: Job, split: Split) -> float:
    """Return a layer's tensor-parallel bytes for a micro-batch: 4 all-reduces of the hidden states, 6 where all is made again."""
    exchanges = 6 if split.recompute == "full" else 4
    return exchanges * 2 * (split.tp - 1) / split.tp * 2 * split.tokens_per_micro_batch(job) * job.model.hidden_size


def context_bytes(job: Job, split: Split) -> float:
    """Return a layer's context-parallel bytes for a micro-batch: keys and values forward and backward, and their gradients (Llama 3, section 3.3.2)."""
    keys = 2 * job.model.num_key_value_heads * job.model.head_dim / split.tp
    return 3 * 2 * keys * split.tokens_per_micro_batch(job) * (split.cp - 1)


def pipeline_bytes(job: Job, split: Split) -> float:
    """Return a stage's bytes for a micro-batch: hidden states and their gradients passed on, once for each chunk of layers."""
    if split.pp == 1:
        return 0.0
    return 2 * 2 * split.tokens_per_micro_batch(job) * job.model.hidden_size / (split.tp if split.sequence_parallel else 1) * split.virtual_stages


def sharding_bytes(job: Job, split: Split, stack: Stack, stage_layers: float) -> float:
    """Return the bytes of weights gathered and gradients reduced among the copies: for a micro-batch under FSDP without a pipeline, else for a step."""
    sharers = split.dp * split.cp
    parameters = (stage_layers * layer_parameters(job.model) + job.model.vocab_size * job.model.hidden_size) / split.tp
    gathers = 2 if split.sharding == "zero3" and split.pp == 1 else 1
    return (2 * gathers + stack.gradient_bytes) * parameters * (sharers - 1) / sharers


def step_bytes(job: Job, split: Split, stack: Stack) -> dict[str, float]:
    """Return what a GPU sends in a step, by kind, in the mean over the stages."""
    micro_batches, layers = split.micro_batches(job), job.model.num_hidden_layers / split.pp
    each = micro_batches if split.sharding == "zero3" and split.pp == 1 else 1
    sent = {
        "tensor": micro_batches * layers * tensor_bytes(job, split),
        "context": micro_batches * layers * context_bytes(job, split),
        "pipeline": micro_batches * pipeline_bytes(job, split),
        "copies": each * sharding_bytes(job, split, stack, layers),
    }
    return {kind: volume for kind, volume in sent.items() if volume}


def tensor_seconds(job: Job, split: Split, gpu: Gpu) -> float:
    """Return the seconds of a layer's tensor-parallel exchange."""
    return tensor_bytes(job, split) / (gpu.group_gb_per_s(split.tp) * 1e9)


def context_seconds(job: Job, split: Split, gpu: Gpu) -> float:
    """Return the seconds of a layer's context-parallel exchange."""
    return context_bytes(job, split) / (gpu.group_gb_per_s(split.cp, split.tp) * 1e9)


def pipeline_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu) -> float:
    """Return the seconds of passing on, spread over the layers of a stage."""
    apart = split.tp * split.cp * (1 if stack.data_outermost else split.dp)
    return pipeline_bytes(job, split) / (gpu.group_gb_per_s(split.pp, apart) * 1e9) * split.pp / job.model.num_hidden_layers


def sharding_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu, stage_layers: float) -> float:
    """Return the seconds of gathering weights and reducing gradients among the copies."""
    apart = split.tp * (split.pp if stack.data_outermost else 1)
    return sharding_bytes(job, split, stack, stage_layers) / (gpu.group_gb_per_s(split.dp * split.cp, apart) * 1e9)
