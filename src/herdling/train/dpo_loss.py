"""Direct preference optimization as an objective: sums over pairs of responses to one prompt (Llama 3, section 4.1.4; Rafailov et al. 2023).

Which tokens count, and what a nat of the NLL term weighs, was settled when the rows were made (`data/preference_rows.py`); this file only adds up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from herdling.train.losses import Metrics
from herdling.train.preference_losses import pairs_of
from herdling.types import Batch, PreferenceBatch, Scores


class Reference(Protocol):
    """A second model that the policy is held to, where its log-probabilities could not be computed beforehand."""

    def logprobs(self, batch: PreferenceBatch) -> Tensor:
        """Return the log-probability of each response at the position that it ends at, 0 elsewhere; float32 `[B, T]`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds of it, live: loading into these tensors restores it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceLoss:
    """For each pair, w preferred to l: - log sigmoid(beta ((log p(w) - log ref(w)) - (log p(l) - log ref(l)))) + nll NLL(w).

    A log-probability is the sum over the scored tokens of a response. NLL is normalised as the rows say.
    """

    beta: float = 0.1
    nll: float = 0.2
    reference: Reference | None = None
    """A reference that changes while the policy learns. None: the batch holds what a fixed one said."""

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch with the log-probabilities of a changing reference; as it is where the reference is fixed."""
        assert isinstance(batch, PreferenceBatch)
        return batch if self.reference is None else replace(batch, reference=self.reference.logprobs(batch))

    def count(self, batch: Batch) -> int:
        """Return the number of pairs."""
        assert isinstance(batch, PreferenceBatch)
        return len(pairs_of(batch)[0])

    def loss(self, scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the sum over pairs, and as sums over pairs, in nats but for the first:

        `accuracy` (beta's margin is above 0), `margin` (what the loss's sigmoid sees), `chosen_shift` and `rejected_shift` (log p - log ref), `nll`.
        """
        assert isinstance(batch, PreferenceBatch)
        chosen, rejected = pairs_of(batch)
        shift = response_logprobs(scores.logprobs, batch) - batch.reference[batch.ranks > 0]
        margin = self.beta * (shift[chosen] - shift[rejected])
        nll = -(scores.logprobs * batch.nll_weights).sum()
        loss = -F.logsigmoid(margin).sum() + self.nll * nll
        shifts = {"chosen_shift": shift[chosen].sum(), "rejected_shift": shift[rejected].sum()}
        metrics = {"accuracy": (margin > 0).sum(), "margin": margin.sum(), **shifts, "nll": nll}
        return loss, {name: value.detach() for name, value in metrics.items()}

    def state(self) -> dict[str, Tensor]:
        """Return what a resume needs beside the policy: a changing reference."""
        return {} if self.reference is None else self.reference.state()


def response_logprobs(logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
    """Return the log-probability of each response, `[R]` in the order in which their ends stand in the rows, from those of tokens, `[B, T]`."""
    ends = (batch.ranks > 0).flatten()
    owner = ends.cumsum(0) - ends.long()  # how many responses end before a position: the number of its own
    sums = logprobs.new_zeros(int(ends.sum()) + 1)  # one more for what follows the last response
    return sums.index_add(0, owner, (logprobs * batch.scored).flatten())[:-1]
