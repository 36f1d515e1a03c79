"""Memory of one GPU by part: weights, gradients, optimiser, activations, logits; of a reader, weights and KV cache. No torch, microseconds a call.

All in bytes, for the fullest pipeline stage. Activations follow what autograd keeps of a Llama block in bfloat16 with flash attention: the counting of
Korthikanti et al. (arXiv 2205.05198) for SwiGLU and grouped queries. Context-parallel ranks share states like data-parallel ones. The peak is either inside a
layer's backward or at the loss, never both: `logits` is by how much the loss exceeds the layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from herdling.model.config import LlamaConfig
from herdling.plan.split import Job, Split, Stack, layers_of_stages

LOSS_CHUNK = 4096
"""Positions whose logits exist at once under a chunked loss."""
OPTIMIZER_BYTES = 12
"""float32 master weight and two Adam moments, a parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of one GPU by part."""

    weights: float
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0
    reserve: float = 0.0
    fragmentation: float = 0.0
    """What the allocator holds beyond what is asked of it, as a share of the other parts."""

    @property
    def allocated(self) -> float:
        """What a framework reports as its own: all but the reserve."""
        return (self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.cache) * (1 + self.fragmentation)

    @property
    def total(self) -> float:
        """All that a GPU must have."""
        return self.allocated + self.reserve


def training_memory(job: Job, split: Split, stack: Stack) -> Memory:
    """Return the memory of the fullest stage in training."""
    layers = layers_of_stages(job.model.num_hidden_layers, split, balanced_ends=stack.balanced_ends)
    stages = {0, 1, split.pp - 1} & set(range(split.pp))  # later middle stages hold fewer micro-batches than the second
    return max((stage_memory(job, split, stack, layers=layers[stage], stage=stage) for stage in stages), key=lambda memory: memory.total)


def stage_memory(job: Job, split: Split, stack: Stack, *, layers: int, stage: int) -> Memory:
    """Return the memory of one pipeline stage, counted from 0."""
    first, last = stage == 0, stage == split.pp - 1
    embedding = job.model.vocab_size * job.model.hidden_size / split.tp
    num_embeddings = first + last - (first and last and job.model.tie_word_embeddings)
    block = layer_parameters(job.model) / split.tp
    weights, gradients, optimizer = state_bytes(layers * block + num_embeddings * embedding, max(block, embedding if num_embeddings else 0.0), split, stack)
    tokens = split.tokens_per_micro_batch(job)
    kept, live = activation_bytes(job, split, stack)
    loss = logits_bytes(job, split, stack) if last else 0.0
    held = kept * layers * micro_batches_held(split, split.micro_batches(job), stage, ahead=stack.micro_batches_ahead) + live
    if stack.receives_at_once:
        ends = (not first) + (not last)  # an input from before, a gradient from behind
        held += ends * split.micro_batches(job) * 2 * job.model.hidden_size / (split.tp if split.sequence_parallel else 1)
    frozen = 2 * job.frozen_models * (layers * block + num_embeddings * embedding) / (split.dp * split.cp if split.sharding == "zero3" else 1)
    return Memory(
        weights=job.trained_models * weights + frozen,
        gradients=job.trained_models * gradients,
        optimizer=job.trained_models * optimizer,
        activations=tokens * held,
        logits=max(0.0, loss - tokens * live),
        reserve=stack.reserve_gib * 2**30,
        fragmentation=stack.fragmentation,
    )


def layer_parameters(model: LlamaConfig) -> int:
    """Return the weights of one block."""
    embeddings = model.vocab_size * model.hidden_size * (1 if model.tie_word_embeddings else 2)
    return (model.num_parameters() - embeddings - model.hidden_size) // model.num_hidden_layers


def state_bytes(parameters: float, gathered: float, split: Split, stack: Stack) -> tuple[float, float, float]:
    """Return the bytes of weights, gradients and optimiser for the parameters of a stage; `gathered` is its largest block, whole while it is at work.

    Without a pipeline two blocks are gathered in bfloat16 and one block's gradient is whole; FSDP under a pipeline gathers and reduces once a step.
    """
    sharers = split.dp * split.cp
    if split.sharding == "zero3":  # the float32 master is the weight
        whole = (parameters, parameters) if split.pp > 1 else (2 * gathered, gathered)
        if sharers == 1:
            whole = (whole[0], 0.0)
        return 4 * parameters / sharers + 2 * whole[0], stack.gradient_bytes * (parameters / sharers + whole[1]), 8 * parameters / sharers
    gradients: float = stack.gradient_bytes * parameters / (sharers if split.sharding == "zero2" else 1)
    optimizer = OPTIMIZER_BYTES * parameters / (1 if split.sharding == "none" else sharers)
    return 2 * parameters, gradients, optimizer


def activation_bytes(job: Job, split: Split, stack: Stack) -> tuple[float, float]:
    """Return the bytes per token that each layer keeps for its backward, and those of the one layer that is at work.

    Norms: two inputs and two outputs, and float32 copies of both where they are not fused. Products: query, key, value and output of attention; gate, up,
    activated gate and their product. At work: gradients, and what tensor-parallel ranks gather of hidden states and context-parallel ranks of keys.
    """
    model = job.model
    width, queries, keys = model.hidden_size, model.num_attention_heads * model.head_dim, model.num_key_value_heads * model.head_dim
    shared = split.tp if split.sequence_parallel else 1
    norms = (8 if stack.fused_norms else 24) * width / shared
    scores = stack.score_bytes * model.num_attention_heads * job.seq_len
    feed_forward = (8 if job.feed_forward == "swiglu" else 6) * model.intermediate_size
    everything = norms + (4 * (queries + keys) + feed_forward + scores) / split.tp
    if stack.compiled:
        everything -= 4 * width / shared + (feed_forward - 4 * model.intermediate_size) / split.tp
    if stack.low_precision_inputs and job.precision != "bf16":
        everything -= 2 * width / shared + (queries + model.intermediate_size) / split.tp
    gradients = (4 * width / shared) + 6 * model.intermediate_size / split.tp
    gathered = (4 if stack.async_tp else 8) * width if split.tp > 1 else 0.0
    gathered += 8 * (split.cp - 1) * (queries if stack.repeated_keys else keys) / split.tp
    if split.recompute == "none":
        return everything, gradients + gathered
    if split.recompute == "full":
        return 2 * width / shared, everything + gathered
    outputs = 2 * (queries + 2 * keys + width + 2 * model.intermediate_size) / split.tp
    return 2 * width / shared + 2 * queries / split.tp + outputs / 2, everything + gathered


def micro_batches_held(split: Split, micro_batches: int, stage: int, *, ahead: int = 0) -> float:
    """Return of how many micro-batches a stage holds the activations: pp - stage under 1F1B; interleaving adds (pp - 1) / v of a stage's layers."""
    if split.pp == 1:
        return 1.0
    interleaved = (split.pp - 1) / split.virtual_stages if split.virtual_stages > 1 else 0.0
    return min(split.pp - stage + interleaved + ahead, float(micro_batches))


def logits_bytes(job: Job, split: Split, stack: Stack) -> float:
    """Return the bytes of the output layer's logits, their float32 copies and gradients, and its input and that one's gradient, whole on each rank."""
    tokens = split.tokens_per_micro_batch(job)
    if stack.loss == "chunked":
        tokens = min(tokens, LOSS_CHUNK)
    hidden = 4 * job.model.hidden_size if split.tp == 1 or not stack.async_tp else 0
    return tokens * (hidden + job.model.vocab_size * stack.logit_bytes / (split.tp if stack.vocab_parallel else 1))


def inference_memory(model: LlamaConfig, *, tp: int, pp: int, sequences: int, seq_len: int, weight_bytes: float = 2.0, reserve_gib: float = 2.0) -> Memory:
    """Return the memory of one GPU that serves: weights and the cache of so many sequences. Key heads that cannot be cut further are copied."""
    weights = model.num_parameters() * weight_bytes / (tp * pp)
    cut = min(tp, model.num_key_value_heads)
    return Memory(weights=weights, cache=model.kv_cache_bytes_per_token() * sequences * seq_len / (cut * pp), reserve=reserve_gib * 2**30)
