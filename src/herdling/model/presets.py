"""Every size of the three papers as a `LlamaConfig` (LLaMA, table 2; Llama 2, table 1; Llama 3, table 3), by name. Imports no torch.

Llama 2 34B has no preset: the paper never printed its shape. Llama 3.2 1B and 3B are not in the papers either, but published and the only official sizes that a
laptop can hold. Contexts are those of the released weights.
"""

from __future__ import annotations

from types import MappingProxyType

from herdling.base.errors import ModelError, did_you_mean
from herdling.model.config import LlamaConfig, RopeScalingConfig, feed_forward_size

LLAMA1_SHAPES = {"7b": (4096, 32, 32), "13b": (5120, 40, 40), "33b": (6656, 60, 52), "65b": (8192, 80, 64)}
"""hidden_size, layers, heads; no grouped queries (Llama 1 table 2)."""
LLAMA3_SHAPES = {"8b": (4096, 32, 32, 1024, 1.3), "70b": (8192, 80, 64, 4096, 1.3), "405b": (16_384, 126, 128, 4096, 1.2)}
"""hidden_size, layers, heads, multiple_of and multiplier of the SwiGLU width; 8 key heads (Llama 3 table 3)."""


def _llama1(hidden_size: int, layers: int, heads: int, *, context: int, eps: float) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32_000,
        hidden_size=hidden_size,
        intermediate_size=feed_forward_size(hidden_size),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=128,
        max_position_embeddings=context,
        rms_norm_eps=eps,
    )


def _llama3(hidden_size: int, layers: int, heads: int, multiple_of: int, multiplier: float, *, scaled: bool) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=hidden_size,
        intermediate_size=feed_forward_size(hidden_size, multiple_of=multiple_of, multiplier=multiplier),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=131_072 if scaled else 8192,
        rope_theta=500_000.0,
        rope_scaling=RopeScalingConfig() if scaled else None,
    )


def _llama32(hidden_size: int, layers: int, heads: int, head_dim: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=hidden_size,
        intermediate_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=head_dim,
        max_position_embeddings=131_072,
        rope_theta=500_000.0,
        rope_scaling=RopeScalingConfig(factor=32.0),
        tie_word_embeddings=True,
    )


_LLAMA2_70B = LlamaConfig(
    vocab_size=32_000,
    hidden_size=8192,
    intermediate_size=feed_forward_size(8192, multiple_of=4096, multiplier=1.3),
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=4096,
)

PRESETS = MappingProxyType(
    {f"llama1-{size}": _llama1(*shape, context=2048, eps=1e-6) for size, shape in LLAMA1_SHAPES.items()}
    | {f"llama2-{size}": _llama1(*LLAMA1_SHAPES[size], context=4096, eps=1e-5) for size in ("7b", "13b")}
    | {"llama2-70b": _LLAMA2_70B}
    | {f"llama3-{size}": _llama3(*LLAMA3_SHAPES[size], scaled=False) for size in ("8b", "70b")}
    | {f"llama3.1-{size}": _llama3(*shape, scaled=True) for size, shape in LLAMA3_SHAPES.items()}
    | {"llama3.2-1b": _llama32(2048, 16, 32, 64), "llama3.2-3b": _llama32(3072, 28, 24, 128)}
)
"""Name -> shape, such as `PRESETS["llama3.1-8b"]`."""


def preset(name: str) -> LlamaConfig:
    """Return the shape of this name. Raises `ModelError`, naming the nearest, for an unknown one."""
    if name not in PRESETS:
        raise ModelError(f"size {name!r} is unknown{did_you_mean(name, PRESETS)}; accepted: {', '.join(PRESETS)}")
    return PRESETS[name]
