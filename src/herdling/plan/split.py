"""What is planned, as plain values: the work (`Job`), how it is cut over GPUs (`Split`), and what the training software does (`Stack`). No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from herdling.base.errors import SettingsError
from herdling.model.config import LlamaConfig

Recompute = Literal["none", "selective", "full"]
Sharding = Literal["none", "zero1", "zero2", "zero3"]
Precision = Literal["bf16", "fp8", "fp4"]
Attention = Literal["newest", "flash2", "flash1", "unfused"]
Scales = Literal["tensor", "block", "row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One step of training: a model, its context and its batch. A `SettingsError` for what no step can be."""

    model: LlamaConfig
    seq_len: int
    """Tokens of a row."""
    global_batch: int
    """Rows of one step, over all GPUs."""
    attended: float | None = None
    """Mean length that attention sees where rows hold documents and masks keep them apart: sum of squared lengths over sum of lengths. Unset: the whole row."""
    trained_models: int = 1
    """Models of this shape that are trained: 2 in PPO, policy and critic (Llama 2, section 3.2.3)."""
    frozen_models: int = 0
    """Models of this shape that only score: 2 in PPO, reference and reward; 1 in DPO."""
    feed_forward: Literal["swiglu", "gelu"] = "swiglu"
    """GELU of width f is written as an `intermediate_size` of 2f/3, which has its weights and FLOPs; it only keeps fewer activations."""
    precision: Precision = "bf16"
    """Format of the matrix products; weights between them stay bfloat16."""

    def __post_init__(self) -> None:
        for name in ("seq_len", "global_batch"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; accepted: 1 or more")
        if self.attended is not None and not 1 <= self.attended <= self.seq_len:
            raise SettingsError(f"attended is {self.attended}; accepted: between 1 and seq_len, {self.seq_len}")

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.seq_len * self.global_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How a step is cut: groups in the order [TP, CP, PP, DP], innermost first (Llama 3, section 3.3.2). Their product is the number of GPUs."""

    tp: int = 1
    """Tensor parallel: GPUs that share each matrix."""
    cp: int = 1
    """Context parallel: GPUs that share each row's tokens."""
    pp: int = 1
    """Pipeline stages."""
    dp: int = 1
    """Copies that each read their own rows; with `sharding` they share the states."""
    micro_batch: int = 1
    """Rows that pass through a stage at once."""
    virtual_stages: int = 1
    """Model chunks per GPU, V of the interleaved schedule; 1 is plain 1F1B."""
    recompute: Recompute = "none"
    """Activations made again in the backward: none, selective (half of the matrix products), or full (all but each layer's input)."""
    sharding: Sharding = "zero3"
    """What the copies share: optimiser (zero1), and gradients (zero2), and weights (zero3, FSDP)."""
    sequence_parallel: bool = True
    """Whether tensor-parallel ranks also share the norms and residuals along the sequence (no effect at tp 1)."""

    @property
    def num_gpus(self) -> int:
        """GPUs that this split takes."""
        return self.tp * self.cp * self.pp * self.dp

    def micro_batches(self, job: Job) -> int:
        """Return the micro-batches that a copy runs in one step, at least 1."""
        return max(1, ceil(job.global_batch / (self.dp * self.micro_batch)))

    def tokens_per_micro_batch(self, job: Job) -> float:
        """Return the tokens that one GPU holds of a micro-batch."""
        return self.micro_batch * job.seq_len / self.cp


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What the training software does: what it keeps in memory, and which kernels it runs; the defaults are FSDP2 with fp32 master weights."""

    gradient_bytes: int = 4
    """Bytes of a gradient: 4, Llama 3 section 3.3.2 accumulates in FP32; Megatron-likes with 2 save a fifth of the states."""
    loss: Literal["plain", "chunked"] = "plain"
    """Whether the whole logits exist (`plain`), or only those of a chunk of positions (`chunked`)."""
    logit_bytes: float = 14.0
    """Bytes per logit of a plain loss: bfloat16 output and its gradient, float32 copy, log-softmax and its gradient. A compiled loss holds about half."""
    vocab_parallel: bool = True
    """Whether tensor-parallel ranks share the logits."""
    attention: Attention = "newest"
    """Its kernel: `newest` is written for the GPU's generation (FlashAttention-3, cuDNN) where there is one, `unfused` are products around a softmax."""
    score_bytes: float = 0.0
    """Bytes kept for each query and key: 0 with flash attention or where scores are made again, 2 where a fused softmax keeps its result alone, 5 where
    each operation keeps its own."""
    ring: bool = False
    """Whether context-parallel ranks pass keys on around a ring while they attend (Transformer Engine), instead of gathering them first (Llama 3, 3.3.2)."""
    overlapped: bool = False
    """Whether what the copies exchange runs behind the work of a micro-batch (Megatron-Core's overlapped gradient reduction and parameter gathering)."""
    scales: Scales = "tensor"
    """What shares a scale in fp8 and fp4: a tensor, a block of 16 or 32 values, or a row."""
    compiled: bool = False
    """Whether pointwise results (norms, activated gate) are made again in the backward, as torch.compile does, so that only results of products are kept."""
    fused_norms: bool = True
    """Whether RMSNorm keeps no float32 copies."""
    async_tp: bool = False
    """Whether tensor-parallel gathers are fused with their matrix products, so that no gathered input exists."""
    low_precision_inputs: bool = False
    """Whether fp8 and fp4 matrix products keep their inputs for the backward in a byte a value, as Transformer Engine does."""
    repeated_keys: bool = False
    """Whether key heads are copied to the number of query heads before context-parallel ranks gather them."""
    micro_batches_ahead: int = 0
    """Micro-batches that a pipeline stage holds beyond those that 1F1B needs, such as one received ahead."""
    receives_at_once: bool = False
    """Whether a pipeline stage holds a buffer for every micro-batch's input and output gradient from the start, as PyTorch's pipelines do."""
    data_outermost: bool = True
    """Whether groups are nested [TP, CP, PP, DP] as in Llama 3, or [TP, CP, DP, PP] as in Megatron and torchtitan, where copies are neighbours in a node."""
    balanced_ends: bool = False
    """Whether the first and last stage have one layer less (Llama 3, section 3.3.2)."""
    reserve_gib: float = 1.5
    """CUDA context and communication buffers: what a GPU's memory holds besides the framework's."""
    fragmentation: float = 0.03
    """What the caching allocator holds beyond what is asked of it, as a share (2 to 4 % in torchtitan's published memory)."""


def layers_of_stages(num_layers: int, split: Split, *, balanced_ends: bool) -> list[int]:
    """Return the layers of each stage, first to last; uneven counts are spread, the ends take the fewer (126 layers on 16 stages: 7, 8 x 14, 7)."""
    if split.pp == 1:
        return [num_layers]
    per_stage, more = divmod(num_layers + 2 * balanced_ends, split.pp)
    middle = range((split.pp - more + 1) // 2, (split.pp - more + 1) // 2 + more)
    layers = [per_stage + (stage in middle) for stage in range(split.pp)]
    layers[0] -= balanced_ends
    layers[-1] -= balanced_ends
    return layers
