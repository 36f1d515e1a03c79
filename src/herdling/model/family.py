"""One family of shapes by one rule, from thousands of parameters to tens of billions: what a sweep trains, so that its models differ by size alone. No torch.

The dial (`dial.py`) is a table of good single models; a law is drawn through many, and a row of the table that is a little wider or deeper than its neighbours
would stand beside the curve. Here the number of layers grows with width^0.6, which passes near the dial's shapes and the papers' (3 at 64, 5 at 128, 16 at
1,024, 37 at 4,096), SwiGLU is 8/3 of the width, and the embedding is tied at every size. Heads have 16 dimensions below a width of 256: with two heads of 32
the losses of one size scatter by 1.7 %, with four of 16 by 0.7 (rows of 64 tokens; docs/decisions/0073).
"""

from __future__ import annotations

from functools import cache
from math import log

from herdling.model.config import LlamaConfig, feed_forward_size

WIDTHS = (
    *(16, 24, *range(32, 64, 8), *range(64, 128, 16), *range(128, 256, 32), *range(256, 512, 64), *range(512, 1024, 128)),
    *(*range(1024, 2048, 256), *range(2048, 8193, 512)),
)


@cache
def family(vocab_size: int, sequence_length: int) -> tuple[LlamaConfig, ...]:
    """Return the shapes, smallest first, each a quarter to two thirds larger than the one before."""
    return tuple(_shape(width, vocab_size, sequence_length) for width in WIDTHS)


def member(parameters: float, *, vocab_size: int, sequence_length: int) -> LlamaConfig:
    """Return the shape of the family that is nearest in size by ratio, tied embedding included."""
    return min(family(vocab_size, sequence_length), key=lambda config: abs(log(config.num_parameters() / parameters)))


def _shape(width: int, vocab_size: int, sequence_length: int) -> LlamaConfig:
    wanted = 16 if width < 256 else 32 if width < 512 else 64 if width < 2048 else 128
    heads = min((number for number in range(1, width // 2 + 1) if width % (2 * number) == 0), key=lambda number: abs(log(width / number / wanted)))
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=feed_forward_size(width, multiple_of=16 if width < 1024 else 256),
        num_hidden_layers=round(width**0.6 / 4),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        max_position_embeddings=sequence_length,
        tie_word_embeddings=True,
    )
