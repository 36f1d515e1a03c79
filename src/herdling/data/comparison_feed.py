"""Encoded comparisons dealt out step by step: a fixed number of them a step, in as many rows of one length as they need.

The order of the comparisons, and of the responses in a row, is drawn anew in each epoch from named streams, so a step is a pure function of its number. What a
row holds beside the ids is the business of whoever lays it out: ranks and margins for a reward model, log-probabilities of a reference for DPO. Holds all ids
in memory: 4 bytes a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from herdling.base.artifact import value_fingerprint
from herdling.base.errors import DataError
from herdling.base.seeds import stream
from herdling.data.shared_rows import SharedPrompt, row_length_for
from herdling.types import Batch


class EncodedComparison(Protocol):
    """A prompt and its responses as ids, with whatever is known of each."""

    @property
    def shared(self) -> SharedPrompt:
        """The ids."""
        ...

    @property
    def facts(self) -> object:
        """What else decides how a comparison is trained on, in the order of the responses; its `repr` goes into the fingerprint."""
        ...

    def ordered(self, order: Sequence[int]) -> Self:
        """Return the same with the responses in another order."""
        ...


One = TypeVar("One", bound=EncodedComparison)
One_contra = TypeVar("One_contra", contravariant=True)
Made = TypeVar("Made", bound=Batch)
Made_co = TypeVar("Made_co", covariant=True)


class LayOut(Protocol[One_contra, Made_co]):
    """Packs comparisons into rows of `length`."""

    def __call__(self, comparisons: Sequence[One_contra], length: int, pad_id: int) -> Made_co:
        """Return the rows of one step."""
        ...


class ComparisonFeed(Generic[One, Made]):
    """A `Feed` over encoded comparisons for a number of epochs: for each step `batch_pairs` of them, the last one what is left."""

    def __init__(
        self, comparisons: Sequence[One], lay_out: LayOut[One, Made], *, batch_pairs: int, epochs: int, seed: int, hidden_size: int, pad_id: int = 0
    ) -> None:
        if not comparisons:
            raise DataError("no comparison is left to train on")
        self.comparisons, self.lay_out = comparisons, lay_out
        self.batch_pairs, self.seed, self.pad_id = batch_pairs, seed, pad_id
        # May be more than the model's context, which bounds a prompt with one response.
        self.row_length = row_length_for([one.shared.length for one in comparisons], batch_pairs, hidden_size)
        self.num_comparisons = len(comparisons) * epochs
        self.num_steps = -(-self.num_comparisons // batch_pairs)
        self.num_tokens = sum(one.shared.length for one in comparisons) * epochs
        parts = ["comparison rows", 1, seed, batch_pairs, epochs, self.row_length, comparisons_digest(comparisons)]
        self.fingerprint = value_fingerprint(parts)
        self._order = lru_cache(maxsize=2)(self._shuffle)

    @property
    def positions(self) -> int:
        """Positions in a step's rows, on average, in whole rows: what a schedule in tokens counts for a step."""
        return -(-self.num_tokens // (self.num_steps * self.row_length)) * self.row_length

    def batches(self, step: int) -> Iterator[Made]:
        """Yield the batch of this step (from 0), then of each following one."""
        for number in range(step, self.num_steps):
            first = number * self.batch_pairs
            yield self._batch(range(first, min(first + self.batch_pairs, self.num_comparisons)))

    def _batch(self, positions: range) -> Made:
        chosen = []
        for epoch, place in (divmod(position, len(self.comparisons)) for position in positions):
            number = int(self._order(epoch)[place])
            one = self.comparisons[number]
            chosen.append(one.ordered(stream(self.seed, "responses", epoch, number).permutation(len(one.shared.responses)).tolist()))
        return self.lay_out(chosen, self.row_length, self.pad_id)

    def _shuffle(self, epoch: int) -> NDArray[np.int64]:
        return stream(self.seed, "comparisons", epoch).permutation(len(self.comparisons))


def comparisons_digest(comparisons: Sequence[EncodedComparison]) -> str:
    """Return the SHA-256 of all ids and facts, in order."""
    digest = sha256()
    for one in comparisons:
        for part in (one.shared.prompt, *one.shared.responses):
            digest.update(part.tobytes() + b"|")
        digest.update(repr(one.facts).encode())
    return digest.hexdigest()
