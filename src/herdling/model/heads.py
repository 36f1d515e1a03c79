"""Log-probabilities of the wanted tokens, in chunks over supervised positions only: full logits of a large vocabulary never exist."""

from __future__ import annotations

import torch
from torch import Tensor


def token_logprobs(hidden: Tensor, weight: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return log p(label) in nats, float32 `[B, T]`, 0 where `mask` is False.

    `hidden` is `[B, T, D]`, `weight` the output matrix `[V, D]`, `labels` and `mask` (True = wanted) are `[B, T]`.
    """
    logits = (hidden[mask] @ weight.T).float()
    wanted = logits.gather(-1, labels[mask].unsqueeze(-1)).squeeze(-1)
    return torch.zeros(mask.shape, dtype=torch.float32, device=hidden.device).masked_scatter(mask, wanted - logits.logsumexp(-1))
