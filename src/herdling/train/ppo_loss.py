"""The objective of PPO: a clipped policy loss and a clipped value loss, as sums over the tokens of answers (Schulman et al. 2017; Llama 2, section 3.2.3).

Reads log-probabilities and values of the model as it is now, beside those of when the answers were sampled; advantages and returns were made then, for all the
steps of an iteration. The loss is a mean over the tokens of a mini-batch, however long their answers are; the papers leave that open.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from herdling.base.errors import TrainingError
from herdling.train.losses import Metrics
from herdling.types import Batch, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoBatch(Batch):
    """Packed rows of prompts with the answers that were sampled to them. The tensors are float32 `[B, T]` and stand where a token of an answer is predicted."""

    old_logprobs: Tensor
    """Of the labels, under the policy that sampled them."""
    advantages: Tensor
    """How much better than expected the label was; whitened; 0 where none is."""
    old_values: Tensor
    returns: Tensor
    """What the critic is to say: advantages before whitening, plus old values."""
    value_weights: Tensor
    """What a position's error counts in the value loss; 0 where no value is learned."""
    untouched: bool = False
    """True while the weights are those that the answers were sampled with: every ratio must then be 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoObjective:
    """Sum over tokens of max(-A r, -A clip(r, 1 - c, 1 + c)) + value_coef / 2 * max((V - R)^2, (clip(V, V_old -+ v) - R)^2), r = p / p_old."""

    clip: float = 0.2
    """c: Llama 2, section 3.2.3."""
    value_clip: float = 0.5
    """v: [unspecified] in the paper; the value of OpenRLHF and verl (TRL: 0.2)."""
    value_coef: float = 0.1
    ratio_tolerance: float = 1e-4
    """How far a ratio may be from 1 before the first step of an iteration."""

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch as it is: what the loss needs was made when the answers were sampled."""
        return batch

    def count(self, batch: Batch) -> int:
        """Return the number of tokens in answers."""
        return int(batch.loss_mask.sum())

    def loss(self, scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the summed loss, and as sums: both losses, `ratio`, `clip_fraction`, `value_clip_fraction`, and `approximate_kl` (old to new policy, k3).

        Raises:
            TrainingError: the weights are untouched and yet a ratio is not 1.
        """
        assert isinstance(batch, PpoBatch)
        assert scores.values is not None
        mask = batch.loss_mask
        advantages = batch.advantages[mask]
        change = scores.logprobs[mask] - batch.old_logprobs[mask]
        ratio = change.exp()
        if batch.untouched:
            self._check_untouched(ratio)
        plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - self.clip, 1 + self.clip)
        policy_loss = torch.maximum(plain, clipped).sum()

        learned = batch.value_weights > 0
        values, old, returns = scores.values[learned].float(), batch.old_values[learned], batch.returns[learned]
        near = torch.minimum(torch.maximum(values, old - self.value_clip), old + self.value_clip)
        errors, near_errors = (values - returns).square(), (near - returns).square()
        value_loss = (torch.maximum(errors, near_errors) * batch.value_weights[learned]).sum() / 2
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "ratio": ratio.sum(),
            "clip_fraction": (clipped > plain).sum(),
            "value_clip_fraction": ((near_errors > errors) * batch.value_weights[learned]).sum(),
            "approximate_kl": (torch.expm1(change) - change).sum(),
        }
        return policy_loss + self.value_coef * value_loss, {name: value.detach() for name, value in metrics.items()}

    def _check_untouched(self, ratio: Tensor) -> None:
        furthest = float((ratio.detach() - 1).abs().max()) if len(ratio) else 0.0
        if not furthest <= self.ratio_tolerance:
            raise TrainingError(
                f"PPO: before the first step of an iteration a ratio of new to old chances is off 1 by {furthest:.2g} (accepted: {self.ratio_tolerance:g})."
                " The answers were not scored with the weights that are trained: are there rollouts of another run in this folder? Remove its folder `ppo`"
            )
