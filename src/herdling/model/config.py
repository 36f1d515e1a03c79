"""The shape of a Llama as settings with Hugging Face's field names, and exact counts of its parameters, FLOPs and cache bytes.

Imports no torch, so that recipes and plans read it at once. Which ids begin and end a text is the tokenizer's affair, not the model's.
"""

from __future__ import annotations

from typing import Literal

from herdling.base.decode import settings


@settings
class RopeScalingConfig:
    """How Llama 3.1 stretches RoPE beyond its first context (Meta's code; the paper is silent): long waves are slowed down, short ones are kept."""

    factor: float = 8.0
    """How much slower the waves longer than `original_max_position_embeddings / low_freq_factor` turn (32 in Llama 3.2)."""
    low_freq_factor: float = 1.0
    """Waves longer than the original context divided by this are slowed by the whole factor."""
    high_freq_factor: float = 4.0
    """Waves shorter than the original context divided by this are kept; between the two the slowing is blended."""
    original_max_position_embeddings: int = 8192
    """The context of the pre-training before the stretch."""

    def __post_init__(self) -> None:
        if self.factor < 1.0:
            raise ValueError(f"factor is {self.factor}; accepted: 1 or more")
        if not 0.0 < self.low_freq_factor < self.high_freq_factor:
            raise ValueError(f"low_freq_factor {self.low_freq_factor} must be positive and less than high_freq_factor {self.high_freq_factor}")
        _check_positive(self, "original_max_position_embeddings")


@settings
class LlamaConfig:
    """The shape of a Llama 1, 2, 3 or 3.1 (LLaMA, section 2.2; Llama 3, section 3.2). A shape that cannot be is a `ValueError`, with the values."""

    vocab_size: int
    """Rows of the embedding; at least as many as the tokenizer has ids."""
    hidden_size: int
    """Width of the residual stream (`dim` in the papers)."""
    intermediate_size: int
    """Width inside the SwiGLU layer; `feed_forward_size` gives the papers' value."""
    num_hidden_layers: int
    """Blocks of attention and SwiGLU."""
    num_attention_heads: int
    """Query heads."""
    num_key_value_heads: int
    """Key and value heads; fewer than query heads is grouped-query attention (Llama 2 section 2.2)."""
    head_dim: int
    """Width of one head: 128 in every model of the papers, even because RoPE turns pairs."""
    max_position_embeddings: int = 2048
    """The longest context that positions are prepared for, in tokens."""
    rms_norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm: 1e-6 in Llama 1, 1e-5 since."""
    rope_theta: float = 10_000.0
    """Base of the RoPE frequencies: 10,000 in Llama 1 and 2, 500,000 in Llama 3 (Llama 3 table 3)."""
    rope_scaling: RopeScalingConfig | None = None
    """The stretch of Llama 3.1; unset for plain RoPE."""
    tie_word_embeddings: bool = False
    """Whether the output matrix is the embedding. Untied in the three papers; saves a quarter and more of a miniature's weights."""

    def __post_init__(self) -> None:
        _check_positive(self, "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
        _check_positive(self, "max_position_embeddings", "rms_norm_eps", "rope_theta")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads is {self.num_attention_heads}, num_key_value_heads {self.num_key_value_heads}:"
                " each key head serves equally many query heads, so the first must be a multiple of the second"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; accepted: an even number, because RoPE turns pairs")

    def num_parameters(self) -> int:
        """Return the exact number of weights; a tied embedding counts once."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        norms = self.hidden_size * (2 * self.num_hidden_layers + 1)
        return embeddings + norms + self.num_hidden_layers * self._layer_matrices()

    def flops_per_token(self, seq_len: int, convention: Literal["causal", "full"] = "causal") -> int:
        """Return the FLOPs of matrix products per token of training: forward and backward (twice the forward), a multiply-add is 2.

        Counts every matrix a token meets, the output matrix too, the embedding look-up not. Attention scores and their weighted sum add
        4 * heads * head_dim per key that a query reads, per layer, in the forward: `"full"` counts all `seq_len` keys (the convention of most published MFU),
        `"causal"` only those that a causal query may read, (seq_len + 1) / 2 on average.
        """
        matrices = self.num_hidden_layers * self._layer_matrices() + self.vocab_size * self.hidden_size
        per_key = 4 * self.num_hidden_layers * self.num_attention_heads * self.head_dim
        twice_the_keys = 2 * seq_len if convention == "full" else seq_len + 1
        return 3 * (2 * matrices + per_key * twice_the_keys // 2)

    def kv_cache_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Return the bytes that one position takes in the cache of keys and values; 2 bytes a value is bfloat16."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * bytes_per_value

    def _layer_matrices(self) -> int:
        """Weights in the matrices of one block."""
        attention = self.hidden_size * self.head_dim * 2 * (self.num_attention_heads + self.num_key_value_heads)
        return attention + 3 * self.hidden_size * self.intermediate_size


def feed_forward_size(hidden_size: int, *, multiple_of: int = 256, multiplier: float | None = None) -> int:
    """Return the papers' width of SwiGLU: two thirds of 4 * hidden_size, times the multiplier, rounded up (LLaMA, section 2.2)."""
    width = 8 * hidden_size // 3
    if multiplier is not None:
        width = int(multiplier * width)
    return multiple_of * -(-width // multiple_of)


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise ValueError(f"{name} is {getattr(config, name)}; accepted: more than 0")
