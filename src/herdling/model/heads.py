"""The language head: log-probabilities of wanted tokens, at supervised positions only, never with all logits of a large vocabulary.

Its gradient is that of each position's log-probability, so it serves any objective: the loss weighs positions, the head does not care how. Two ways, the same
values:

- small (a miniature's vocabulary): probabilities are kept for the backward, nothing is computed twice;
- large: the vocabulary goes block by block, twice. Each block's rows of the weight gradient are then complete at once, and memory is one block whatever the
  vocabulary: at 2,048 tokens of 128,256 ids 64 MiB where plain logits with their gradient take 2 GiB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

PIECE_BYTES = 64 * 2**20
"""The most that probabilities may take: kept as a whole below it, block by block above."""


def token_logprobs(hidden: Tensor, weight: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return log p(label) in nats, float32 `[B, T]`, 0 where `mask` is False.

    `hidden` is `[B, T, D]`, `weight` the output matrix `[V, D]`, `labels` (int64) and `mask` (True = wanted) are `[B, T]`. Labels are not looked at where they
    are not wanted. In bfloat16 the values are good to 0.03 nats, as logits are; in float32 to 1e-6. No probability is taken for less than e^-87.
    """
    rows, wanted = hidden[mask], labels[mask]
    head = _Kept if rows.shape[0] * weight.shape[0] * rows.element_size() <= PIECE_BYTES else _Recomputed
    logprobs = torch.zeros(mask.shape, dtype=torch.float32, device=hidden.device)
    found: Tensor = head.apply(rows, weight, wanted)  # type: ignore[no-untyped-call]
    return logprobs.masked_scatter(mask, found)


class _Kept(torch.autograd.Function):
    """log softmax(h Wᵀ)[label] for rows h `[N, D]`, labels `[N]`; keeps the probabilities P.

    With e the unit vectors of the labels and g the incoming gradients: dh = g (e - P) W, dW = (e - P)ᵀ (g h).
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        scores = rows @ weight.T
        probabilities = torch.softmax(scores, dim=-1, out=scores)
        every = torch.arange(len(labels), device=labels.device)
        of_label = probabilities[every, labels]
        ctx.save_for_backward(rows, weight, every, labels, of_label)
        ctx.probabilities = probabilities  # not saved as the others are: the backward changes them for a moment
        # Not log_softmax: that would need another pass over all scores in float32, and an exponential in the backward.
        return of_label.float().clamp(min=torch.finfo(torch.float32).tiny).log()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, every, labels, of_label = ctx.saved_tensors
        probabilities = ctx.probabilities
        down = -grad.unsqueeze(-1).to(rows.dtype)
        probabilities[every, labels] = of_label - 1
        grads = (probabilities @ weight * down, probabilities.T @ (rows * down))
        probabilities[every, labels] = of_label  # as it was: a graph may be walked twice
        return (*grads, None)


class _Recomputed(torch.autograd.Function):
    """The same, with the vocabulary in blocks; keeps the logarithm of each row's sum of exponentials."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        total = torch.full((len(labels),), -torch.inf, device=rows.device)
        wanted = torch.zeros_like(total)
        for block in _blocks(rows, weight):
            scores = (rows @ weight[block].T).float()
            within, place = _within(labels, block)
            wanted = torch.where(within, scores.gather(-1, place.unsqueeze(-1)).squeeze(-1), wanted)
            # Not logsumexp: it would hold the block twice.
            highest = scores.amax(-1)
            total = torch.logaddexp(total, scores.sub_(highest.unsqueeze(-1)).exp_().sum(-1).log_() + highest)
        ctx.save_for_backward(rows, weight, labels, total)
        return wanted - total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, labels, total = ctx.saved_tensors
        down = -grad.unsqueeze(-1)
        weighted = (rows * down).to(rows.dtype)
        grad_rows, grad_weight = torch.zeros_like(rows, dtype=torch.float32), torch.empty_like(weight)
        every = torch.arange(len(labels), device=labels.device)
        for block in _blocks(rows, weight):
            errors = (rows @ weight[block].T).float().sub_(total.unsqueeze(-1)).exp_()
            within, place = _within(labels, block)
            errors[every, place] -= within.float()
            errors = errors.to(rows.dtype)
            grad_rows += errors @ weight[block]
            torch.mm(errors.T, weighted, out=grad_weight[block])
        return (grad_rows * down).to(rows.dtype), grad_weight, None


def _blocks(rows: Tensor, weight: Tensor) -> Iterator[slice]:
    """Yield parts of the vocabulary whose scores for these rows, in float32, fit the piece."""
    width = max(256, PIECE_BYTES // (4 * max(1, len(rows))))
    yield from (slice(start, min(start + width, len(weight))) for start in range(0, len(weight), width))


def _within(labels: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Return which labels a block holds, and their places in it (any place for the others)."""
    within = (labels >= block.start) & (labels < block.stop)
    return within, (labels - block.start).clamp(0, block.stop - block.start - 1)
