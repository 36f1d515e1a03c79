"""Objectives: what a batch's scores are worth, as sums over supervised tokens.

An objective sees log-probabilities and values, both `[B, T]`, and never calls the model: the loop, or later a pipeline schedule, owns the forward. It returns
sums, not means: the loop divides by the count over all micro-batches and ranks, so how a batch is split cannot change the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from herdling.types import Batch, Scores

Metrics = Mapping[str, Tensor]


class Objective(Protocol):
    """A training objective as a value."""

    def prepare(self, batch: Batch) -> Batch:
        """Add what the loss needs and needs no gradient (reference log-probabilities, advantages). Called under `no_grad` on each micro-batch."""
        ...

    def count(self, batch: Batch) -> int:
        """Return how many units the loss sums over: what the loop divides by (supervised tokens here; pairs in a preference loss)."""
        ...

    def loss(self, scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the summed loss (scalar, float32) and summed metrics (scalars without gradient)."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """An objective that remembers something beside the weights: a reference that moves, a controller."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint has to hold, by name and live: loading into them restores what is remembered."""
        ...


class NextToken:
    """Maximum likelihood of the supervised tokens: pre-training (all tokens) and supervised fine-tuning (tokens of answers)."""

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch as it is: nothing is needed beside it."""
        return batch

    def count(self, batch: Batch) -> int:
        """Return the number of supervised tokens."""
        return int(batch.loss_mask.sum())

    def loss(self, scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return - sum over supervised t of log p(label_t | earlier tokens), in nats."""
        return -scores.logprobs.sum(), {}
