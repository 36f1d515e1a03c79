"""One dial for small models: a size, or a budget of tokens or FLOPs, gives width, depth, heads, learning rate, batch and tokens. No torch.

The papers begin at 6.7B; below them this table is ours, and says where each figure comes from. Sizes between two rows take the nearer shape and a learning rate
in between. What a recipe sets itself wins over the dial.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, log2, sqrt

from herdling.base.errors import SettingsError
from herdling.model.config import LlamaConfig

TOKENS_PER_PARAMETER = 20
"""What spends training compute best: the ratio of Hoffmann et al. 2022 (arXiv 2203.15556). Llama 3's own law gives 41 at its 405B (section 3.2.1), growing with
the budget; it does not reach down here."""

SHAPES = (
    # hidden_size, intermediate_size, layers, heads, key heads; parameters with 4,096 tied embeddings
    (64, 176, 3, 2, 2),  # 0.4M
    (96, 256, 4, 3, 3),  # 0.8M
    (128, 352, 4, 4, 4),  # 1.3M
    (160, 448, 5, 5, 5),  # 2.2M
    (192, 512, 6, 6, 6),  # 3.4M
    (256, 704, 5, 4, 4),  # 5.1M
    (320, 864, 7, 5, 5),  # 10M
    (384, 1024, 8, 6, 6),  # 16M
    (512, 1376, 8, 8, 8),  # 27M
    (640, 1728, 10, 10, 10),  # 52M
    (768, 2048, 12, 12, 4),  # 79M
    (1024, 2752, 16, 16, 4),  # 180M
    (1536, 4096, 20, 24, 8),  # 0.5B
    (2048, 5632, 24, 32, 8),  # 1.2B
)
"""Width over depth is 32 to 100 as in the papers' smaller models (128 at 7B), the SwiGLU width 8/3 of the width rounded to 32, heads of 32 below
width 256 and of 64 above, grouped keys from 79M on, where the cache begins to cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallModel:
    """What the dial gives."""

    config: LlamaConfig
    lr: float
    """Peak learning rate of AdamW."""
    batch_tokens: int
    sequence_length: int
    num_tokens: int
    """How many tokens to train on, `TOKENS_PER_PARAMETER` each."""


def dial(parameters: float, *, vocab_size: int, sequence_length: int = 256) -> SmallModel:
    """Return the small model with about this many parameters, embeddings included.

    Raises:
        SettingsError: more than twice the largest small shape: the papers' presets begin there.
    """
    shapes = dial_configs(vocab_size=vocab_size, sequence_length=sequence_length)
    largest = shapes[-1].num_parameters()
    if parameters > 2 * largest:
        raise SettingsError(f"size {parameters:,.0f} is beyond the dial, which ends at {largest:,}; above it there are the papers' sizes, such as llama2-7b")
    config = min(shapes, key=lambda shape: abs(log(shape.num_parameters() / parameters)))
    count = config.num_parameters()
    return SmallModel(
        config=config,
        lr=learning_rate(count),
        batch_tokens=batch_tokens(count, sequence_length),
        sequence_length=sequence_length,
        num_tokens=TOKENS_PER_PARAMETER * count,
    )


def dial_configs(*, vocab_size: int, sequence_length: int = 256) -> list[LlamaConfig]:
    """Return every shape of the dial, smallest first."""
    return [_config(shape, vocab_size, sequence_length) for shape in SHAPES]


def dial_tokens(num_tokens: float, *, vocab_size: int, sequence_length: int = 256) -> SmallModel:
    """Return the small model that this many tokens train best."""
    return dial(num_tokens / TOKENS_PER_PARAMETER, vocab_size=vocab_size, sequence_length=sequence_length)


def dial_flops(flops: float, *, vocab_size: int, sequence_length: int = 256) -> SmallModel:
    """Return the small model that this much compute trains best: 6 FLOPs a parameter and token (Llama 3, section 3.2.1)."""
    return dial(sqrt(flops / (6 * TOKENS_PER_PARAMETER)), vocab_size=vocab_size, sequence_length=sequence_length)


def learning_rate(parameters: int) -> float:
    """Return the peak learning rate: 3e-3 at 1M and the papers' 3e-4 at 7B, a power law between (the exponent, -0.26, is close to others' -0.24)."""
    slope = log(3e-4 / 3e-3) / log(7e9 / 1e6)
    return float(f"{3e-3 * exp(slope * log(max(parameters, 200_000) / 1e6)):.2g}")


def batch_tokens(parameters: int, sequence_length: int) -> int:
    """Return tokens in a step: 8K at 1M parameters, growing with its square root, in whole rows, a power of two. Ours: the papers' 4M
    at 7B would be a few steps for a miniature, whose runs are short."""
    tokens = 8192 * sqrt(parameters / 1e6)
    rows: int = 2 ** max(3, round(log2(tokens / sequence_length)))
    return rows * sequence_length


def _config(shape: tuple[int, int, int, int, int], vocab_size: int, sequence_length: int) -> LlamaConfig:
    hidden_size, intermediate_size, layers, heads, key_heads = shape
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=hidden_size // heads,
        max_position_embeddings=sequence_length,
        tie_word_embeddings=True,
    )
