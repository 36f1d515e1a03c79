"""A reference that follows the policy: an exponential moving average, brought up to date every k steps (Llama 3, section 7.5.5, which found it better there).

The paper prints neither k nor the share. A second model stands in memory and is asked at every step. It is kept and computed in float32: an average in bfloat16
would lose steps that are small beside it. Its weights are part of a checkpoint, so a resumed run ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from herdling.base.artifact import value_fingerprint
from herdling.model.transformer import Llama
from herdling.train.config import MovingReferenceConfig
from herdling.train.dpo_loss import response_logprobs
from herdling.train.forward import scorer
from herdling.train.loop import Feed
from herdling.types import Batch, PreferenceBatch


class MovingReference:
    """The average of a policy. `reference` is a float32 model of the same shape, which becomes it in place."""

    def __init__(self, reference: Llama, policy: Llama, config: MovingReferenceConfig) -> None:
        self.config = config
        self._score = scorer(reference)
        self._weights = {name: weight.detach() for name, weight in reference.named_parameters()}
        self._policy = policy

    @torch.no_grad()
    def follow(self) -> None:
        """Move by one step towards the policy: ref = decay ref + (1 - decay) policy."""
        for name, weight in self._policy.named_parameters():
            self._weights[name].lerp_(weight.float(), 1 - self.config.decay)

    @torch.no_grad()
    def logprobs(self, batch: PreferenceBatch) -> Tensor:
        """Return the log-probability of each response at the position that it ends at, 0 elsewhere; float32 `[B, T]`."""
        found = response_logprobs(self._score(batch).logprobs, batch)
        return torch.zeros_like(batch.reference).masked_scatter(batch.ranks > 0, found)

    def state(self) -> dict[str, Tensor]:
        """Return the weights of the average, live."""
        return {f"reference.{name}": weight for name, weight in self._weights.items()}


class FollowedFeed:
    """A feed that brings a moving reference up to date before the batches of steps k, 2 k, ...: between two batches is where a step has ended."""

    def __init__(self, feed: Feed, reference: MovingReference) -> None:
        self.feed, self.reference = feed, reference
        self.fingerprint = value_fingerprint(["moving reference", 1, reference.config.every_steps, reference.config.decay, feed.fingerprint])

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield the batch of this step (from 0), then of each following one."""
        for number, batch in enumerate(self.feed.batches(step), start=step):
            # A checkpoint of step n is written before this runs for batch n, so a resume runs it once, as an unbroken run does.
            if number and number % self.reference.config.every_steps == 0:
                self.reference.follow()
            yield batch
