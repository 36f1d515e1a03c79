"""Grouped-query causal self-attention, and how each backend keeps documents apart with the one meaning of `model/masks.py`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herdling.model.config import LlamaConfig
from herdling.model.masks import document_mask
from herdling.model.rope import rotate

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries `[B, T, H, hd]`, keys `[B, T, H_kv, hd]`, values) -> `[B, T, H, hd]`: chosen once a forward, used by every layer."""


def self_attention(document_ids: Tensor | None) -> Attend:
    """Return how the positions of a row attend to each other: causally, within documents `[B, T]` if given."""
    mask = None if document_ids is None else document_mask(document_ids)

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True).transpose(1, 2)

    return attend


class Attention(nn.Module):
    """o(softmax(rotated q kᵀ / sqrt(head_dim)) v); key head j serves query heads j * H / H_kv and the following (papers.md 5.3)."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.num_heads, self.num_key_heads = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.num_key_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.num_key_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """Return the layer's contribution to the residual stream for x `[B, T, D]`."""
        batch, length, _ = x.shape
        # One product for queries, keys and values: three small ones leave cores idle between them.
        mixed = F.linear(x, torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)))
        mixed = mixed.view(batch, length, -1, self.head_dim)
        turning = self.num_heads + self.num_key_heads
        turned = rotate(mixed[:, :, :turning], cos, sin)
        queries, keys = turned.split((self.num_heads, self.num_key_heads), dim=2)
        read = attend(self.layer, queries, keys, mixed[:, :, turning:])
        return F.linear(read.reshape(batch, length, -1), self.o_proj.weight)
