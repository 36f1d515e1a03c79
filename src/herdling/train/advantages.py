"""From scores to advantages: the formulas of PPO on tensors, each by itself (Llama 2, section 3.2.3; Schulman et al. 2016 and 2017).

All are padded to `[N, L]`, one answer a row, its tokens from column 0 on; masks are True where there is a token. Sums over a row run over its tokens. Llama 2
gives the reward whiten(logit(Rc)) - beta KL and leaves open the estimator of the KL, where the score stands, gamma and lambda: docs/decisions/0062 says what we
take and why. Nothing here knows of models, files or settings.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KlEstimator = Literal["k1", "k2", "k3"]
# The variance of equal values is 0, and whitening must leave 0 then.
_TINY = 1e-8


def kl_estimate(logprobs: Tensor, reference: Tensor, estimator: KlEstimator) -> Tensor:
    """Return what each sampled token says of KL(policy || reference), in nats, from its log-probabilities under both (Schulman's note of 2020).

    With d = log p(policy) - log p(reference): k1 = d (unbiased, may be negative), k2 = d^2 / 2 (biased, never negative), k3 = e^-d - 1 + d (unbiased, never
    negative). Expectations are over tokens drawn from the policy.
    """
    difference = logprobs - reference
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    return torch.expm1(-difference) + difference


def whiten(values: Tensor, mask: Tensor | None = None, *, unbiased: bool = False) -> Tensor:
    """Return the values with mean 0 and variance 1 over all that the mask has (unset: over all); 0 elsewhere.

    `unbiased` divides the sum of squares by the count less one, as TRL does; the papers do not say.
    """
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    chosen = values[mask].double()
    mean = chosen.mean()
    variance = (chosen - mean).square().sum() / max(1, len(chosen) - int(unbiased))
    return torch.where(mask, (values.double() - mean) * torch.rsqrt(variance + _TINY), 0.0).to(values.dtype)


def token_mask(lengths: Tensor, width: int) -> Tensor:
    """Return True at the first `lengths[n]` columns of row n, `[N, width]`."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def token_rewards(kl: Tensor, lengths: Tensor, scores: Tensor, beta: float, places: Tensor) -> Tensor:
    """Return the reward of each step `[N, L]`: - beta * kl at each of a row's `lengths[n]` tokens, and its score `[N]` in the column `places[n]`.

    The sum over a row is then the paper's R = score - beta * (KL of the whole answer).
    """
    rewards = torch.where(token_mask(lengths, kl.shape[1]), -beta * kl, 0.0)
    return rewards.scatter_add(1, places[:, None], scores[:, None].to(rewards.dtype))


def gae(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Return generalized advantage estimates `[N, L]`: A_t = d_t + gamma lam A_(t+1), d_t = r_t + gamma V_(t+1) - V_t; nothing comes after the last column.

    `values[n, t]` is the critic's guess before token t. Rewards and values must be 0 behind the end of a row.
    """
    advantages = torch.zeros_like(rewards)
    after, later = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for column in reversed(range(rewards.shape[1])):
        delta = rewards[:, column] + gamma * after - values[:, column]
        later = delta + gamma * lam * later
        advantages[:, column], after = later, values[:, column]
    return advantages


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return 1 - Var(returns - values) / Var(returns): 1 = the critic knows all, 0 = no more than a constant would; 0 where returns do not vary."""
    wanted, error = returns[mask].double(), (returns - values)[mask].double()
    spread = float(wanted.var(correction=0))
    return 1 - float(error.var(correction=0)) / spread if spread > _TINY else 0.0


def next_beta(beta: float, kl: float, *, target: float, horizon: float, samples: int) -> float:
    """Return the adaptive penalty's weight after an iteration whose answers had this KL on average (Ziegler et al. 2019).

    beta * (1 + clip(kl / target - 1, -0.2, 0.2) * samples / horizon).
    """
    error = min(0.2, max(-0.2, kl / target - 1))
    return beta * (1 + error * samples / horizon)
