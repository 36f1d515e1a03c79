"""What one iteration of PPO learned from its answers: log-probabilities and values by the trainer's forward, and from them advantages and returns.

`[N, L]` tensors hold a token of an answer a column; `[N, L + 1]` the value before each token and the one behind the last. Two sets of formulas: the textbook's
(the score stands at the last token; rewards are whitened over the whole batch, as in Llama 2) and those of TRL 1.12, for comparison (the score stands one step
behind the end of the turn, as if one more token were chosen there; raw scores; unbiased variances).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from herdling.base.errors import TrainingError
from herdling.train.advantages import explained_variance, gae, kl_estimate, token_mask, token_rewards, whiten
from herdling.train.config import AdvantageConfig
from herdling.types import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """The answers of one iteration, and what the models as they were then say of them. All on the CPU, float32; 0 behind an answer's end."""

    rollouts: Sequence[Rollout]
    logprobs: Tensor
    """Under the policy that is trained, by the trainer's forward, `[N, L]`."""
    reference: Tensor
    """Under the model that the policy is held near to, `[N, L]`."""
    values: Tensor
    """Of the critic, `[N, L + 1]`."""

    @property
    def lengths(self) -> Tensor:
        """Tokens of each answer, int64 `[N]`."""
        return torch.tensor([len(one.response_ids) for one in self.rollouts])

    @property
    def mask(self) -> Tensor:
        """True at tokens, `[N, L]`."""
        return token_mask(self.lengths, self.logprobs.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What the steps of an iteration learn, all `[N, L + 1]`; the policy reads the first `lengths[n]` columns."""

    advantages: Tensor
    """Whitened over all tokens of the iteration."""
    returns: Tensor
    value_mask: Tensor
    """True where the critic learns."""


def scores_of(rollouts: Sequence[Rollout], config: AdvantageConfig) -> Tensor:
    """Return what each whole answer is worth, float32 `[N]`: the whitened logit of its gated reward, less the penalty where it did not end.

    An answer that nobody can judge counts as the worst of the batch, and as one that did not end.

    Raises:
        TrainingError: no answer of the batch can be judged.
    """
    judged = [one.reward for one in rollouts if one.reward is not None]
    if not judged:
        raise TrainingError(
            f"none of {len(rollouts):,} sampled answers can be judged: each is empty, or not a text that the chat format can write. Begin with sft"
        )
    raw = torch.tensor([min(judged) if one.reward is None else one.reward for one in rollouts])
    worth = whiten(raw) if config.formulas == "textbook" else raw
    without_end = torch.tensor([not one.ended or one.reward is None for one in rollouts])
    return worth - config.no_end_penalty * without_end


def targets_of(experience: Experience, beta: float, config: AdvantageConfig) -> Targets:
    """Return advantages and returns of an iteration's answers, with this weight of the KL penalty."""
    textbook = config.formulas == "textbook"
    lengths, width = experience.lengths, experience.logprobs.shape[1] + 1
    # TRL's step behind the end: where the longest answers of the batch leave no room for it, their score stands at the last token.
    steps = lengths if textbook else lengths + (lengths < width - 1).long()
    taken, mask = token_mask(steps, width), token_mask(lengths, width)
    kl = torch.zeros(len(lengths), width)
    kl[:, :-1] = kl_estimate(experience.logprobs, experience.reference, config.kl_estimator)
    values = torch.where(taken, experience.values, 0.0)
    rewards = token_rewards(kl, lengths, scores_of(experience.rollouts, config), beta, steps - 1)
    advantages = gae(rewards, values, config.gamma, config.lam)
    return Targets(advantages=whiten(advantages, mask, unbiased=not textbook), returns=advantages + values, value_mask=taken)


def facts_of(experience: Experience, targets: Targets, beta: float) -> dict[str, Any]:
    """Return small numbers about an iteration, all means over its answers unless they say otherwise; KL and drift are in nats."""
    rollouts, mask = experience.rollouts, experience.mask
    sampled = torch.zeros_like(experience.logprobs)
    sampled[mask] = torch.tensor([value for one in rollouts for value in one.logprobs])
    drift = (sampled - experience.logprobs)[mask].abs()
    kl = kl_estimate(experience.logprobs, experience.reference, "k1")
    return {
        **means_of(rollouts),
        "beta": beta,
        "kl": float(kl.sum() / len(rollouts)),
        "entropy": float(-experience.logprobs[mask].mean()),
        "advantage_mean": float(targets.advantages[:, :-1][mask].mean()),
        "explained_variance": explained_variance(experience.values, targets.returns, targets.value_mask),
        "drift": float(drift.mean()),
        "drift_max": float(drift.max()),
    }


def means_of(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Return mean rewards (logits; None where nobody gave one), mean length in tokens, and how many answers did not end or could not be judged."""

    def mean(values: Sequence[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return sum(there) / len(there) if there else None

    return {
        "reward": mean([one.reward for one in rollouts]),
        "helpfulness": mean([one.helpfulness for one in rollouts]),
        "safety": mean([one.safety for one in rollouts]),
        "length": mean([float(len(one.response_ids)) for one in rollouts]),
        "without_end": sum(not one.ended for one in rollouts),
        "not_judged": sum(one.reward is None for one in rollouts),
    }
