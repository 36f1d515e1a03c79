"""A model of a few thousand weights and rows of noise with a pattern: small real things for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from herdling.base.seeds import stream
from herdling.data.batch import make_batch
from herdling.train.config import CheckpointConfig, GuardConfig, OptimizerConfig, ScheduleConfig
from herdling.train.feed import ScheduledFeed
from herdling.train.loop import Loop
from herdling.train.losses import NextToken
from herdling.train.optim import Optimizer
from herdling.train.schedule import Schedule, plan_schedule
from herdling.types import Batch, Scores

VOCABULARY = 37


class TinyModel(nn.Module):
    """Embedding, a gated layer, a norm and an output matrix: one weight of each kind that a Llama has."""

    def __init__(self, seed: int = 0, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.gate, self.up = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.norm = nn.RMSNorm(width)
        self.out = nn.Linear(width, VOCABULARY, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                if weight.ndim == 2:
                    weight.normal_(0, 0.2, generator=generator)

    def score(self, batch: Batch) -> Scores:
        hidden = self.embed(batch.input_ids)
        hidden = self.norm(hidden + nn.functional.silu(self.gate(hidden)) * self.up(hidden))
        logprobs = torch.log_softmax(self.out(hidden).float(), dim=-1)
        return Scores(logprobs=logprobs.gather(-1, batch.labels[..., None]).squeeze(-1) * batch.loss_mask)


class NoiseRows:
    """Rows of a noisy counting language; a share of the positions is not supervised."""

    def __init__(self, num_rows: int = 10_000, sequence_length: int = 16, seed: int = 0) -> None:
        self.num_rows, self.sequence_length, self.seed = num_rows, sequence_length, seed
        self.fingerprint = f"noise {num_rows} {sequence_length} {seed}"

    def rows(self, start: int, count: int) -> Batch:
        made = [self._row(index) for index in range(start, start + count)]
        tokens = np.stack([row for row, _ in made])
        mask = np.stack([mask for _, mask in made])
        return make_batch(tokens[:, :-1], tokens[:, 1:], mask, np.zeros_like(mask))

    def _row(self, index: int) -> tuple[Any, Any]:
        chance = stream(self.seed, "row", index)
        steps = chance.integers(1, 3, self.sequence_length + 1)
        share = chance.random()
        return (np.cumsum(steps) + chance.integers(VOCABULARY)) % VOCABULARY, chance.random(self.sequence_length) < share


def tiny_schedule(num_steps: int, rows: int = 8, sequence_length: int = 16, **config: Any) -> Schedule:
    batch = rows * sequence_length
    return plan_schedule(ScheduleConfig(**config), num_tokens=num_steps * batch, batch=str(batch), sequence_length=sequence_length, where="test")


def tiny_loop(folder: Path, *, num_steps: int = 30, dtype: torch.dtype = torch.float32, model: TinyModel | None = None, **changes: Any) -> Loop:
    model = TinyModel() if model is None else model
    score = changes.pop("score", None) or model.score
    rows: Callable[[int], NoiseRows] = lambda length: NoiseRows(sequence_length=length)  # noqa: E731
    schedule = changes.pop("schedule", None) or tiny_schedule(num_steps)
    parts: dict[str, Any] = {
        "score": score,
        "objective": NextToken(),
        "feed": ScheduledFeed(schedule, rows),
        "schedule": schedule,
        "optimizer": Optimizer(model, OptimizerConfig(), dtype=dtype),
        "lr": 1e-2,
        "folder": folder,
        "guard": GuardConfig(),
        "checkpoint": CheckpointConfig(every_seconds=1e9),
    }
    return Loop(**{**parts, **changes})
