"""Grouped-query causal self-attention, and how each backend keeps documents apart with the one meaning of `model/masks.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herdling.model.blockwise import attend_blockwise
from herdling.model.config import LlamaConfig
from herdling.model.masks import document_mask, first_readable, hidden_interval
from herdling.model.rope import Angles, rotate

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries `[B, H, T, hd]`, keys `[B, H_kv, T, hd]`, values) -> `[B, H, T, hd]`: chosen once a forward, used by every layer."""


def self_attention(document_ids: Tensor | None, length: int, device: torch.device, response_ids: Tensor | None = None) -> Attend:
    """Return how the positions of a row attend to each other: causally, and within documents `[B, T]` if given.

    With `response_ids` `[B, T]` (0 = prompt, 1, 2, ... = the responses to it) a response reads the prompt of its document and itself.
    """
    hidden = None if document_ids is None or response_ids is None else hidden_interval(document_ids, response_ids)
    if device.type == "cpu":
        first = torch.zeros(1, length, dtype=torch.int64) if document_ids is None else first_readable(document_ids)
        return lambda layer, queries, keys, values: attend_blockwise(queries, keys, values, first, hidden)[0]
    if document_ids is not None and device.type == "cuda":
        return _flex_attention(first_readable(document_ids), hidden)
    mask = None if document_ids is None else document_mask(document_ids, response_ids)
    return lambda layer, queries, keys, values: F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=mask is None, enable_gqa=True)


def _flex_attention(first: Tensor, hidden: Tensor | None) -> Attend:
    """Return attention on CUDA that skips what the mask of documents hides, block by block, for `first_readable [B, T]` and `hidden_interval [B, T, 2]`.

    Written without a GPU at hand: `tests/model/test_attention.py` holds the test that one has to pass.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    batch, length = first.shape
    blocks = create_block_mask(flex_rule(first, hidden), batch, None, length, length, device=first.device)
    return lambda layer, queries, keys, values: _compiled_flex()(queries, keys, values, block_mask=blocks, enable_gqa=True)


def flex_rule(first: Tensor, hidden: Tensor | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return the two intervals as flex attention wants them: (row, head, query, key) -> True where the query may read the key."""

    def may_read(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (key <= query) & (key >= first[row, query])
        return own if hidden is None else own & ~((key >= hidden[row, query, 0]) & (key < hidden[row, query, 1]))

    return may_read


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    """Return flex attention compiled: uncompiled it would hold all scores."""
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Tensor] = torch.compile(flex_attention)
    return compiled


class _TurnHeads(torch.autograd.Function):
    """Split a joint product into queries, keys and values by heads, and turn the first two: autograd's own backward fills and adds full-size zeros."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, cos: Tensor, sin: Tensor, num_heads: int, num_key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        by_head = mixed.transpose(1, 2)
        turning = num_heads + num_key_heads
        return (
            rotate(by_head[:, :num_heads].contiguous(), (cos, sin)),
            rotate(by_head[:, num_heads:turning].contiguous(), (cos, sin)),
            by_head[:, turning:].contiguous(),
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        back = (cos, -sin)
        turned = (rotate(grads[0], back), rotate(grads[1], back), grads[2])
        return torch.cat([grad.transpose(1, 2) for grad in turned], dim=2), None, None, None, None


class Attention(nn.Module):
    """o(softmax(turned q kᵀ / sqrt(head_dim)) v); key head j serves query heads j * H / H_kv and the following (Llama 2, section 2.2)."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.num_heads, self.num_key_heads = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.num_key_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.num_key_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, x: Tensor, angles: Angles, attend: Attend) -> Tensor:
        """Return the layer's contribution to the residual stream for x `[B, T, D]`."""
        batch, length, _ = x.shape
        # One product for queries, keys and values: three small ones leave the cores idle between them.
        mixed = F.linear(x, torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)))
        by_head = mixed.view(batch, length, -1, self.head_dim)
        queries, keys, values = _TurnHeads.apply(by_head, *angles, self.num_heads, self.num_key_heads)  # type: ignore[no-untyped-call]
        read = attend(self.layer, queries, keys, values)
        return F.linear(read.transpose(1, 2).reshape(batch, length, -1), self.o_proj.weight)
