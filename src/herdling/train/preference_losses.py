"""The objective of reward models: sums over pairs of responses to one prompt (Llama 2, section 3.2.2; Llama 3, section 4.1.2).

Every response that ranks above another of its document makes a pair with it: two responses give one pair, edited > chosen > rejected gives three. Which token's
value is a response's score was settled when the rows were made (`data/comparison_rows.py`); this file only reads where `ranks` is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from herdling.train.losses import Metrics
from herdling.types import Batch, PreferenceBatch, RewardBatch, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseReward:
    """For each pair, i better than j: - log sigmoid(r_i - r_j - m) + safety_weight * (BCE(r_i, safe_i) + BCE(r_j, safe_j)) / 2.

    The margin m is that of the comparison's rating (Llama 2, table 27), 0 in Llama 3. The second term teaches one score to tell safe from unsafe too; the paper
    names such a loss and gives neither formula nor weight (section A.3.3): ours is the binary cross-entropy of sigmoid(r) against the safety labels, for those
    responses that have one.
    """

    safety_weight: float = 0.0

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch as it is: nothing is needed beside it."""
        return batch

    def count(self, batch: Batch) -> int:
        """Return the number of pairs."""
        assert isinstance(batch, RewardBatch)
        return len(pairs_of(batch)[0])

    def loss(self, scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the sum over pairs, and as sums `accuracy` (pairs in the right order; equal scores are wrong) and `margin` (r_i - r_j)."""
        assert isinstance(batch, RewardBatch)
        assert scores.values is not None
        ends = batch.ranks > 0
        better, worse = pairs_of(batch)
        rewards = scores.values[ends].float()
        difference = rewards[better] - rewards[worse]
        loss = -F.logsigmoid(difference - batch.margins[ends][better]).sum()
        metrics = {"accuracy": (difference > 0).sum(), "margin": difference.sum()}
        if self.safety_weight:
            safety = _safety_losses(rewards, batch.safe[ends])
            safety_loss = (safety[better] + safety[worse]).sum() / 2
            loss = loss + self.safety_weight * safety_loss
            metrics["safety_loss"] = safety_loss
        return loss, {name: value.detach() for name, value in metrics.items()}


def pairs_of(batch: RewardBatch | PreferenceBatch) -> tuple[Tensor, Tensor]:
    """Return the better and the worse of each pair, as numbers of responses in the order in which their ends stand in the rows; int64 `[P]`, both."""
    ends = batch.ranks > 0
    rows = ends.nonzero()[:, 0]
    documents, ranks = batch.document_ids[ends], batch.ranks[ends]
    same = (rows[:, None] == rows) & (documents[:, None] == documents)
    better, worse = (same & (ranks[:, None] < ranks)).nonzero(as_tuple=True)
    return better, worse


def _safety_losses(rewards: Tensor, safe: Tensor) -> Tensor:
    """Return the binary cross-entropy of each response, 0 where nobody said whether it is safe."""
    losses = F.binary_cross_entropy_with_logits(rewards, safe.clamp(min=0).float(), reduction="none")
    return torch.where(safe >= 0, losses, torch.zeros_like(losses))
