"""The forward of training: a batch through a Llama to the scores that an objective sees."""

from __future__ import annotations

from collections.abc import Callable

import torch

from herdling.model.actor_critic import ActorCritic
from herdling.model.heads import token_logprobs
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.types import Batch, Scores

Score = Callable[[Batch], Scores]


def scorer(model: Llama | RewardModel | ActorCritic, *, compiled: bool = False) -> Score:
    """Return the function from a batch to its scores: of a Llama the log-probabilities of supervised labels, of a reward model the values, of both both.

    `compiled` fuses the blocks; the language head stays as it is.
    """
    if isinstance(model, ActorCritic):
        policy, critic = scorer(model.policy, compiled=compiled), scorer(model.critic, compiled=compiled)
        return lambda batch: Scores(logprobs=policy(batch).logprobs, values=critic(batch).values)
    forward = torch.compile(model.forward, dynamic=False) if compiled else model.forward

    def score(batch: Batch) -> Scores:
        read = forward(batch.input_ids, position_ids=batch.position_ids, document_ids=batch.document_ids, response_ids=batch.response_ids)
        if isinstance(model, RewardModel):
            return Scores(logprobs=torch.zeros_like(read), values=read)
        return Scores(logprobs=token_logprobs(read, model.output_weight, batch.labels, batch.loss_mask))

    return score
