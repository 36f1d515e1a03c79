"""The forward of training: a batch through a Llama to the scores that an objective sees."""

from __future__ import annotations

from collections.abc import Callable

import torch

from herdling.model.heads import token_logprobs
from herdling.model.transformer import Llama
from herdling.types import Batch, Scores

Score = Callable[[Batch], Scores]


def scorer(model: Llama, *, compiled: bool = False) -> Score:
    """Return the function from a batch to the log-probabilities of its supervised labels. `compiled` fuses the blocks; the head stays as it is."""
    forward = torch.compile(model.forward, dynamic=False) if compiled else model.forward

    def score(batch: Batch) -> Scores:
        hidden = forward(batch.input_ids, position_ids=batch.position_ids, document_ids=batch.document_ids)
        return Scores(logprobs=token_logprobs(hidden, model.output_weight, batch.labels, batch.loss_mask))

    return score
