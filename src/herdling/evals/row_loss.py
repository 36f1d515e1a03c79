"""The loss of a model on a fixed set of held-out rows, mixed and cut as in training: what runs of different sizes are compared by.

In nats a token, row by row: all models read the same rows, so what differs between two of them is known far better than either loss itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from herdling.data.loader import RowSource
from herdling.data.mixture import Mixture, plan_mixture
from herdling.data.packing import TokenRows
from herdling.data.token_shards import TokenShards
from herdling.train.forward import Score
from herdling.train.loop import to_device

BATCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class RowLosses:
    """Negative log-probabilities summed over each row, in nats `[rows]`, and the tokens that were predicted in it `[rows]`."""

    nats: NDArray[np.float64]
    num_tokens: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Nats a token over all rows."""
        return float(self.nats.sum() / max(1, self.num_tokens.sum()))

    def error(self, other: RowLosses | None = None) -> float:
        """Return the standard error of the mean, or that of the difference to another model on the same rows."""
        deviation = self.nats - self.mean * self.num_tokens
        if other is not None:
            deviation = deviation - (other.nats - other.mean * other.num_tokens)
        return float(np.sqrt((deviation**2).sum()) / max(1, self.num_tokens.sum()))


def held_out_rows(
    held_out: Mapping[str, TokenShards], weights: Mapping[str, float], *, max_tokens: int, sequence_length: int, seed: int, where: str
) -> TokenRows:
    """Return rows of held-out text in the proportions of training, `max_tokens` of them or as many as there are. Each text is read once."""
    held = {name: shards.num_tokens for name, shards in held_out.items()}
    drawable = sum(size for name, size in held.items() if weights.get(name, 0) > 0)
    num_rows = max(1, min(max_tokens, drawable) // sequence_length)
    plans = plan_mixture(held, weights, total_tokens=num_rows * sequence_length, max_epochs=1.01, where=where)
    return TokenRows(held_out, Mixture(plans, num_rows=num_rows, seed=seed), sequence_length=sequence_length, seed=seed)


@torch.no_grad()
def row_losses(score: Score, rows: RowSource, device: torch.device) -> RowLosses:
    """Score every row."""
    nats, counts = [], []
    step = max(1, BATCH_TOKENS // rows.sequence_length)
    for start in range(0, rows.num_rows, step):
        batch = to_device(rows.rows(start, min(step, rows.num_rows - start)), device)
        nats.append(-score(batch).logprobs.double().sum(dim=1).cpu().numpy())
        counts.append(batch.loss_mask.sum(dim=1).cpu().numpy())
    return RowLosses(np.concatenate(nats), np.concatenate(counts).astype(np.int64))
