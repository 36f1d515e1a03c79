"""The trainer's own forward, outside of the loop: what policy, critic and reference say of rows, and whether that is what PPO must begin with.

Rows run in the pieces that the loop will take, by the same function, so that what is found here is what the first step sees, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from torch import Tensor

from herdling.base.errors import TrainingError
from herdling.model.actor_critic import ActorCritic
from herdling.train.forward import Score
from herdling.train.loop import micro_batches, to_device
from herdling.types import Batch


class Said(NamedTuple):
    """What the models say of rows, float32 `[B, T]` on the CPU: log-probabilities of the labels under both, and values."""

    logprobs: Tensor
    reference: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoForward:
    """The model that is trained, its forward, and that of the model that the policy is held near to."""

    model: ActorCritic
    score: Score
    reference: Score
    device: torch.device
    micro_batch_tokens: int

    @torch.no_grad()
    def of(self, batch: Batch) -> Said:
        """Run rows through all three."""
        parts = []
        for part in micro_batches(batch, self.micro_batch_tokens):
            part = to_device(part, self.device)
            scores, reference = self.score(part), self.reference(part)
            assert scores.values is not None
            parts.append([found.float().cpu() for found in (scores.logprobs, reference.logprobs, scores.values)])
        return Said(*(torch.cat(found) for found in zip(*parts, strict=True)))

    def weights(self) -> str:
        """Name the weights as they are now: the sum and the length of each of them, which any step changes."""
        sums = [fact for weight in self.model.parameters() for fact in (weight.detach().float().sum(), weight.detach().float().norm())]
        return sha256(torch.stack(sums).cpu().numpy().tobytes()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoChecks:
    """What must hold at the beginning of an iteration, and how nearly. Ratios are checked by the loss."""

    max_drift: float
    """Most nats that a token's log-probability by the generator may lie from the trainer's, on average."""
    tolerance: float
    """Most nats a token that the KL to the reference may be off 0 at the start."""
    starts_at_reference: bool

    def check(self, iteration: int, facts: Mapping[str, Any]) -> None:
        """Raise `TrainingError` where it does not; `facts` are those of `experience.facts_of`."""
        if not facts["drift"] <= self.max_drift:
            raise TrainingError(
                f"PPO, iteration {iteration:,}: the generator's log-probabilities lie {facts['drift']:.2g} nats a token from the trainer's, accepted are"
                f" {self.max_drift:g}. They must be those of one model: set loop.dtype = 'float32', or max_drift if this is mere rounding"
            )
        if iteration == 0 and self.starts_at_reference and not abs(facts["kl"]) <= self.tolerance * max(1.0, facts["length"]):
            raise TrainingError(f"PPO: the untouched policy has a KL of {facts['kl']:.2g} nats to its reference, which is the same model: expected 0")
        if not abs(facts["advantage_mean"]) <= 1e-3:
            raise TrainingError(f"PPO, iteration {iteration:,}: advantages have the mean {facts['advantage_mean']:.2g} after whitening, expected 0")
