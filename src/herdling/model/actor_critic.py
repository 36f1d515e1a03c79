"""A policy and its critic as one module, so that one optimizer moves both, one checkpoint holds both, and one forward gives log-probabilities and values.

They share no weights. The papers do not say what Llama 2's critic was; ours has a body of its own, like InstructGPT's: pulling a shared body two ways would tie
the policy to the scale of the rewards. Costs twice the memory of one model.
"""

from __future__ import annotations

import torch
from torch import nn

from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama


class ActorCritic(nn.Module):
    """`policy` says how likely a token is, `critic` what is to come behind every position. Both read the same rows."""

    def __init__(self, policy: Llama, critic: RewardModel) -> None:
        super().__init__()
        self.policy = policy
        self.critic = critic

    @property
    def config(self) -> LlamaConfig:
        """The shape of the policy."""
        return self.policy.config


@torch.no_grad()
def forget_scores(critic: RewardModel) -> RewardModel:
    """Set a critic's head to zero: it begins by expecting nothing, keeps what its body has learned, and is returned.

    Rewards that are whitened have mean 0, so this is the best constant; a reward model's own head would begin off by the mean of its scores.
    """
    critic.score.weight.zero_()
    return critic
