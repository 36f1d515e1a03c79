"""Which position may read which: the one meaning that every backend of attention must have.

A position reads itself and earlier positions of its own document; padding (document id -1) reads itself only, so that no row of a softmax is empty. These dense
masks are the reference and the path of short rows; long rows use forms that never hold `T * T` values (`model/attention.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor


def document_mask(document_ids: Tensor) -> Tensor:
    """Return bool `[B, 1, T, T]`, True = may attend, for document ids `[B, T]` (Llama 3, section 3.2)."""
    queries, keys = document_ids[:, None, :, None], document_ids[:, None, None, :]
    positions = torch.arange(document_ids.shape[1], device=document_ids.device)
    causal = positions[:, None] >= positions
    itself = positions[:, None] == positions
    return causal & (queries == keys) & (queries >= 0) | itself


def cache_mask(positions: Tensor, num_keys: int) -> Tensor:
    """Return bool `[B, 1, T, num_keys]`: a query at `positions [B, T]` reads the cached keys up to its own position."""
    return torch.arange(num_keys, device=positions.device) <= positions[:, None, :, None]
