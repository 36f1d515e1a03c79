"""Mixture: how often each source is drawn (Llama 1, section 2.1, table 1: sampling proportions, and the epochs that follow from them).

Every row of a batch comes from one source. Which one is a pure function of (seed, row): rows are laid out in blocks, and each block holds each source as often
as its proportion says, by systematic sampling with an offset that walks evenly from block to block, in an order shuffled by (seed, block). So any stretch of
training holds nearly the asked proportions (within a row or so a block), and no state needs to be saved. A cap on repetitions takes the surplus of a small
source and spreads it over the others; the report says what was planned, capped and drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.base.seeds import stream, stream_seed

BLOCK_ROWS = 64
# 2**32 divided by the golden ratio: multiples of it, modulo 2**32, fill the circle most evenly.
_STRIDE = 2654435769


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """What is planned for one source: the proportion asked for and the one after caps, tokens to draw, and how often that repeats it."""

    source: str
    asked: float
    proportion: float
    num_tokens: int
    planned_tokens: int
    capped: bool

    @property
    def epochs(self) -> float:
        """How often each token is seen."""
        return self.planned_tokens / self.num_tokens


def plan_mixture(
    num_tokens: Mapping[str, int],
    weights: Mapping[str, float],
    *,
    total_tokens: int,
    max_epochs: float | None = None,
    where: str = "data",
) -> list[SourcePlan]:
    """Turn weights into proportions under a repetition cap. `num_tokens` is what each source has; no weights = every source by its size.

    A source that would be seen more than `max_epochs` times is held there, and the rest is shared out among the others by their weights.

    Raises:
        SettingsError: a weight names no source, is negative, or all are zero.
        DataError: all sources together, at `max_epochs`, hold fewer than `total_tokens`.
    """
    _check_weights(num_tokens, weights, where)
    chosen = {name: float(weights[name] if weights else size) for name, size in num_tokens.items() if (weights.get(name, 0) if weights else size) > 0}
    limit = {name: num_tokens[name] * max_epochs if max_epochs is not None else float("inf") for name in chosen}
    if sum(limit.values()) < total_tokens:
        raise DataError(
            f"{where}: {total_tokens:,} tokens are asked for, but the sources hold {sum(num_tokens[name] for name in chosen):,}, at most"
            f" {max_epochs:g} times each. Train on fewer tokens, add text, or raise max_epochs on purpose"
        )
    asked = {name: weight / sum(chosen.values()) for name, weight in chosen.items()}
    planned = _fill(asked, limit, total_tokens)
    return [
        SourcePlan(
            source=name,
            asked=asked[name],
            proportion=planned[name] / total_tokens,
            num_tokens=num_tokens[name],
            planned_tokens=round(planned[name]),
            capped=planned[name] < asked[name] * total_tokens * (1 - 1e-9),
        )
        for name in chosen
    ]


def _check_weights(num_tokens: Mapping[str, int], weights: Mapping[str, float], where: str) -> None:
    for name, weight in weights.items():
        if name not in num_tokens:
            raise SettingsError(f"{where}.{name}: no source is called {name!r}{did_you_mean(name, num_tokens)}; there are: {', '.join(num_tokens)}")
        if not 0 <= weight < float("inf"):
            raise SettingsError(f"{where}.{name}: found {weight}, expected a number of 0 or more")
    if weights and not any(weights.values()):
        raise SettingsError(f"{where}: all weights are 0, so nothing would be drawn")


def _fill(asked: Mapping[str, float], limit: Mapping[str, float], total: float) -> dict[str, float]:
    """Pour `total` tokens by proportion into vessels with limits; what runs over goes to those that are not full."""
    full: dict[str, float] = {}
    while True:
        open_names = [name for name in asked if name not in full]
        share = (total - sum(full.values())) / sum(asked[name] for name in open_names)
        over = [name for name in open_names if asked[name] * share > limit[name]]
        if not over:
            return {name: full[name] if name in full else asked[name] * share for name in asked}
        full |= {name: limit[name] for name in over}
        if len(full) == len(asked):
            return full


class Mixture:
    """Which source each row comes from. Sources are numbered in the order of `plans`. A longer run begins with the same rows, but for its last block."""

    def __init__(self, plans: list[SourcePlan], *, num_rows: int, seed: int) -> None:
        self.plans = plans
        self.sources = [plan.source for plan in plans]
        self.num_rows = num_rows
        self.seed = seed
        proportions = np.array([plan.proportion for plan in plans])
        self._borders = np.concatenate([[0.0], np.cumsum(proportions / proportions.sum())])
        self._borders[-1] = 1.0
        num_blocks = -(-num_rows // BLOCK_ROWS)
        walk = stream_seed(seed, "mixture", "offset") % 2**32
        offsets = ((walk + np.arange(num_blocks, dtype=np.uint64) * np.uint64(_STRIDE)) % np.uint64(2**32)).astype(np.float64) / 2**32
        # The last block is as short as it must be, so that the whole run holds the planned proportions too.
        sizes = np.minimum(BLOCK_ROWS, num_rows - np.arange(num_blocks) * BLOCK_ROWS)[:, None]
        # Point i of a block of n rows lies at (i + offset) / n; a source owns the points between its two borders.
        edges = np.clip(np.ceil(self._borders * sizes - offsets[:, None]).astype(np.int64), 0, sizes)
        edges[:, :1], edges[:, -1:] = 0, sizes
        self._block_counts = np.diff(edges, axis=1)
        self._counts_before = np.concatenate([np.zeros((1, len(plans)), np.int64), np.cumsum(self._block_counts, axis=0)])
        self._block = lru_cache(maxsize=64)(self._draw_block)

    def rows(self, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each of these rows its source `[count]` and how many earlier rows drew the same source `[count]`."""
        first, last = start // BLOCK_ROWS, (start + count - 1) // BLOCK_ROWS
        blocks = [self._block(block) for block in range(first, last + 1)]
        here = slice(start - first * BLOCK_ROWS, start - first * BLOCK_ROWS + count)
        return np.concatenate([source for source, _ in blocks])[here], np.concatenate([index for _, index in blocks])[here]

    def drawn_rows(self, position: int) -> dict[str, int]:
        """Return how many of the first `position` rows came from each source."""
        block, rest = divmod(position, BLOCK_ROWS)
        counts = self._counts_before[block].copy()
        if rest:
            counts += np.bincount(self._block(block)[0][:rest], minlength=len(self.plans))
        return {name: int(count) for name, count in zip(self.sources, counts, strict=True)}

    def _draw_block(self, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        counts = self._block_counts[block]
        order = stream(self.seed, "mixture", block).permutation(np.repeat(np.arange(len(counts)), counts))
        index = np.empty(len(order), np.int64)
        for source, before in enumerate(self._counts_before[block]):
            mine = order == source
            index[mine] = before + np.arange(mine.sum())
        return order, index


def mixture_report(mixture: Mixture, *, position: int, sequence_length: int) -> list[dict[str, float | int | str | bool]]:
    """Return one row a source for the ledger and the report: asked, planned and drawn proportions, tokens, epochs, capped or not."""
    drawn = mixture.drawn_rows(position)
    return [
        {
            "source": plan.source,
            "asked": plan.asked,
            "planned": plan.proportion,
            "drawn": drawn[plan.source] / position if position else 0.0,
            "num_tokens": plan.num_tokens,
            "planned_tokens": plan.planned_tokens,
            "drawn_tokens": drawn[plan.source] * sequence_length,
            "planned_epochs": plan.epochs,
            "drawn_epochs": drawn[plan.source] * sequence_length / plan.num_tokens,
            "capped": plan.capped,
        }
        for plan in mixture.plans
    ]
