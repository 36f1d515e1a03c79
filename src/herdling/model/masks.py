"""Which position may read which: the one meaning that every backend of attention must have.

A position reads itself and the earlier positions of its own document; padding (document id -1) reads itself only, so that no row of a softmax is
empty. Documents are runs of equal ids, so the readable positions of t are an interval, `first_readable[t] .. t`. Where the responses to a prompt follow it in
one row, each reads the prompt and itself: the responses between are an interval too, `hidden_interval[t]`, taken out of the first. Dense masks are the
reference, and the path of backends that know nothing better.
"""

from __future__ import annotations

import torch
from torch import Tensor


def first_readable(document_ids: Tensor) -> Tensor:
    """Return the first position that each position may read: where its document begins, or itself for padding; int64 `[B, T]`."""
    positions = torch.arange(document_ids.shape[1], device=document_ids.device)
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return torch.where(begins | (document_ids < 0), positions, 0).cummax(dim=1).values


def hidden_interval(document_ids: Tensor, response_ids: Tensor) -> Tensor:
    """Return what lies between the prompt and a position's own response, `begin <= key < end`, int64 `[B, T, 2]`; empty in prompts and first responses.

    `response_ids` `[B, T]` are 0 in the shared prompt of a document, then 1, 2, ... for each response to it, in runs.
    """
    positions = torch.arange(document_ids.shape[1], device=document_ids.device)
    changes = torch.ones_like(document_ids, dtype=torch.bool)
    changes[:, 1:] = (document_ids[:, 1:] != document_ids[:, :-1]) | (response_ids[:, 1:] != response_ids[:, :-1])
    own = torch.where(changes, positions, 0).cummax(dim=1).values
    # The first response begins where the prompt ends: the latest such place, for all positions of the document from there on.
    prompt_end = torch.where(changes & (response_ids <= 1), positions, 0).cummax(dim=1).values
    return torch.stack((prompt_end, own), dim=-1)


def document_mask(document_ids: Tensor, response_ids: Tensor | None = None) -> Tensor:
    """Return bool `[B, 1, T, T]`, True = may attend, for document ids `[B, T]` (Llama 3, section 3.2) and responses that share a prompt."""
    positions = torch.arange(document_ids.shape[1], device=document_ids.device)
    mask = (positions <= positions[:, None]) & (positions >= first_readable(document_ids)[:, :, None])
    if response_ids is not None:
        begin, end = hidden_interval(document_ids, response_ids).unsqueeze(2).unbind(-1)
        mask = mask & ~((positions >= begin) & (positions < end))
    return mask[:, None]


def cache_mask(positions: Tensor, num_keys: int) -> Tensor:
    """Return bool `[B, 1, T, num_keys]`: a query at `positions [B, T]` reads the cached keys up to its own position."""
    return torch.arange(num_keys, device=positions.device) <= positions[:, None, :, None]
