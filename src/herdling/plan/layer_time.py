"""How long one GPU works on a layer and on the loss, for a micro-batch, forward and backward. In seconds. Imports no torch.

A roofline: matrix products at a measured ceiling, less where slices are thin and tokens few; attention at its kernel's own ceiling; pointwise work by the bytes
that it moves through memory, counted operation by operation; and what communication leaves uncovered.
"""

from __future__ import annotations

from math import log2

from herdling.plan.communication import context_seconds, pipeline_seconds, tensor_seconds
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.memory import layer_parameters
from herdling.plan.split import Job, Split, Stack

ASYNC_TP = 0.3
"""What is left uncovered of tensor-parallel exchange where it is fused with the products."""
FLASH1 = 0.5
"""FlashAttention over FlashAttention-2 (the latter's paper, section 4.1)."""
BATCHED = 0.77
"""Ceiling of many products of a head each over that of one large one."""
FUSED_SCORE, EAGER_SCORE = 20, 60
"""Bytes moved for each query and key, forward and backward, between products around a softmax: fused with scale and mask, or each by itself in float32."""
FUSED_NORM = (4, 8)
"""Bytes that RMSNorm moves for a value, forward and backward: input and output; input, both gradients and the output again."""
EAGER_NORM = (36, 78)
"""The same as seven operations of PyTorch, most in float32."""
CAST = {"tensor": 6, "block": 8, "row": 26}
"""Bytes moved to bring a value to fp8 or fp4 in both layouts: greatest, cast, cast turned; along either axis; by row and with products of
CUTLASS, from torchao's README: Llama 3 8B on 8 H100 gains 25 % by tensor and 10 % by row."""


def layer_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu, efficiency: Efficiency) -> tuple[float, float, float]:
    """Return the seconds a layer takes for a micro-batch, forward and backward: computing, memory, and communication that is not covered."""
    tokens = split.tokens_per_micro_batch(job)
    attention = attention_seconds(job, split, stack, gpu, efficiency)
    memory = efficiency.memory * moved_bytes(job, split, stack) * tokens / (gpu.hbm_gb_per_s * 1e9)
    context = context_seconds(job, split, gpu) * crowding(split.tp * split.cp, gpu, efficiency)
    if stack.ring:
        context = max(0.0, context - attention)
    wires = efficiency.tensor * tensor_seconds(job, split, gpu) * (ASYNC_TP if stack.async_tp else 1.0) + context
    return product_seconds(job, split, gpu, efficiency) + attention + efficiency.launch, memory, wires + pipeline_seconds(job, split, stack, gpu)


def crowding(num_gpus: int, gpu: Gpu, efficiency: Efficiency) -> float:
    """Return by how much an exchange among so many GPUs is slower than the line's rate for the nodes that it spans."""
    return 1 + efficiency.crowd * log2(max(1.0, num_gpus / gpu.domain_size))


def product_seconds(job: Job, split: Split, gpu: Gpu, efficiency: Efficiency) -> float:
    """Return the seconds of a layer's matrix products with weights: a thin slice and few tokens leave parts of the GPU idle, both together more."""
    tokens, slices = split.tokens_per_micro_batch(job), 1024 * split.tp / job.model.hidden_size
    passes = {"none": 3.0, "selective": 3.5, "full": 4.0}[split.recompute]
    slowness = 1 + efficiency.thin * slices + efficiency.short * 1024 / tokens * (1 + slices)
    rate = gpu.ceiling(job.precision) * 1e12 * efficiency.matmul * (1 if job.precision == "bf16" else efficiency.low_precision)
    return 2 * layer_parameters(job.model) / split.tp * tokens * passes / rate * slowness


def attention_seconds(job: Job, split: Split, stack: Stack, gpu: Gpu, efficiency: Efficiency) -> float:
    """Return the seconds of a layer's attention: flash kernels work on the causal half, unfused ones on all of it and through memory."""
    model, tokens = job.model, split.tokens_per_micro_batch(job)
    heads = model.num_attention_heads / split.tp
    again = split.recompute == "full" or (stack.attention == "unfused" and not stack.score_bytes)
    if stack.attention == "unfused":
        products = 4 * job.seq_len * heads * model.head_dim * tokens * (3 + again)
        score = (EAGER_SCORE if stack.score_bytes > 2 else FUSED_SCORE) * (1 + again / 3)
        moved = score * job.seq_len * heads * tokens / (gpu.hbm_gb_per_s * 1e9)
        return products / (gpu.matmul_tflops * 1e12 * efficiency.matmul * BATCHED) + moved
    seen = job.seq_len if job.attended is None else job.attended
    flops = 2 * seen * heads * model.head_dim * tokens * (3.5 + again)  # the backward makes the scores again: 2.5 forwards
    ceiling = (stack.attention == "newest" and gpu.fast_attention_tflops) or gpu.attention_tflops * (FLASH1 if stack.attention == "flash1" else 1.0)
    return flops / (ceiling * 1e12 * efficiency.attention)


def moved_bytes(job: Job, split: Split, stack: Stack) -> float:
    """Return the bytes a token that a layer's pointwise work moves through memory: norms, residuals, rotations, gates, and casts to fp8 and fp4."""
    model = job.model
    width = model.hidden_size
    whole = width / (split.tp if split.sequence_parallel else 1)
    queries, keys = (count * model.head_dim / split.tp for count in (model.num_attention_heads, model.num_key_value_heads))
    gated = job.feed_forward == "swiglu"
    inner = model.intermediate_size * (1 if gated else 1.5) / split.tp
    norm = FUSED_NORM if stack.fused_norms or stack.compiled else EAGER_NORM
    gate = ((6, 10) if stack.compiled else (10, 16)) if gated else (4, 6)
    forward, backward = (2 * (norm[way] + 6) * whole + 4 * (queries + keys) + gate[way] * inner for way in (0, 1))
    moved = forward * (1 if split.recompute == "none" else 2) + backward
    if job.precision != "bf16":
        inputs, outputs = 2 * width + queries + inner, 2 * width + queries + 2 * keys + (2 if gated else 1) * inner
        moved += CAST[stack.scales] * (inputs * (2 if split.recompute == "full" else 1) + outputs)
    return moved


def head_seconds(job: Job, split: Split, gpu: Gpu, efficiency: Efficiency) -> float:
    """Return the seconds of output layer and loss for a micro-batch: a product in bfloat16, and reading and writing float32 logits."""
    logits = split.tokens_per_micro_batch(job) * job.model.vocab_size / split.tp
    return 6 * logits * job.model.hidden_size / (gpu.matmul_tflops * 1e12 * efficiency.matmul) + 30 * logits / (gpu.hbm_gb_per_s * 1e9)
