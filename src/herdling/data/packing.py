"""Rows of `sequence_length` tokens: cut from a source's stream of documents (pre-training), or filled with whole dialogs (fine-tuning).

Pre-training (Llama 1 and 2 cut one long stream; Llama 3, section 3.2, adds the mask between documents): the documents of a source, shuffled by (seed, source,
epoch), form one endless stream, cut every T tokens; the rows of an epoch are then shuffled too, because neighbours in a long document are alike, and a step
made of them says less (at 1.3M parameters and 8 rows a step: 1.0 nats of loss after 3M tokens, docs/log.md). Every token is an input once an epoch and every
token but a BOS is predicted once; a document that runs over a row's end goes on in another row, as a document of its own whose positions start at 0. Everything
is a pure function of (seed, position): nothing to save, nothing to skip.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdling.base.artifact import value_fingerprint
from herdling.base.seeds import stream
from herdling.data.batch import make_batch
from herdling.data.mixture import Mixture
from herdling.data.token_shards import TokenShards
from herdling.types import Batch

MAX_ROUND_ROWS = 1 << 20
"""Rows are shuffled among so many at most: 8 MiB of order."""


class DocumentStream:
    """The documents of one source, one shuffled epoch after the other, as one endless stream of tokens; `row` gives its rows in shuffled order.

    Holds the order of the two latest epochs: 16 bytes a document and 8 a row each.
    """

    def __init__(self, shards: TokenShards, *, sequence_length: int, seed: int) -> None:
        self.shards = shards
        self.sequence_length = sequence_length
        self.seed = seed
        self.round_rows = min(max(1, shards.num_tokens // sequence_length), MAX_ROUND_ROWS)
        self._epoch = lru_cache(maxsize=2)(self._shuffle)
        self._round = lru_cache(maxsize=2)(self._shuffle_rows)

    def row(self, index: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the tokens of row `index` and the one after them, and where among them documents begin; both `[sequence_length + 1]`."""
        turn, place = divmod(index, self.round_rows)
        first = (turn * self.round_rows + int(self._round(turn)[place])) * self.sequence_length
        return self.read(first, first + self.sequence_length + 1)

    def read(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return tokens `first` to `last` (exclusive) of the stream, and where among them documents begin; both `[last - first]`."""
        size = self.shards.num_tokens
        parts = [self._read_epoch(epoch, max(first - epoch * size, 0), min(last - epoch * size, size)) for epoch in range(first // size, -(-last // size))]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([tokens for tokens, _ in parts]), np.concatenate([starts for _, starts in parts])

    def _read_epoch(self, epoch: int, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        order, ends = self._epoch(epoch)
        documents = slice(int(np.searchsorted(ends, first, "right")), int(np.searchsorted(ends, last - 1, "right")) + 1)
        begins = ends[documents] - self.shards.lengths[order[documents]]
        from_, to = np.maximum(begins, first), np.minimum(ends[documents], last)
        # Token i of the stream lies at i + (where its document is in the file - where it is in the stream).
        shift = self.shards.starts[order[documents]] - begins
        tokens = self.shards.tokens[np.repeat(shift, to - from_) + np.arange(first, last)]
        starts = np.zeros(last - first, bool)
        starts[begins[begins >= first] - first] = True
        return tokens, starts

    def _shuffle(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = stream(self.seed, "documents", self.shards.source, epoch).permutation(self.shards.num_documents)
        return order, np.cumsum(self.shards.lengths[order])

    def _shuffle_rows(self, turn: int) -> NDArray[np.int64]:
        return stream(self.seed, "rows", self.shards.source, turn).permutation(self.round_rows)


class TokenRows:
    """Rows for pre-training: a mixture of sources, each read as an endless stream. A `RowSource`."""

    def __init__(self, shards: Mapping[str, TokenShards], mixture: Mixture, *, sequence_length: int, seed: int) -> None:
        self.mixture = mixture
        self.sequence_length = sequence_length
        self.num_rows = mixture.num_rows
        self.streams = [DocumentStream(shards[name], sequence_length=sequence_length, seed=seed) for name in mixture.sources]
        parts = [[name, shards[name].fingerprint, plan.proportion] for name, plan in zip(mixture.sources, mixture.plans, strict=True)]
        self.fingerprint = value_fingerprint(["token rows", 2, seed, mixture.seed, sequence_length, parts])

    def rows(self, start: int, count: int) -> Batch:
        """Return rows `start` to `start + count`, `[count, sequence_length]`."""
        length = self.sequence_length
        sources, indices = self.mixture.rows(start, count)
        inputs, labels = np.empty((count, length), np.int64), np.empty((count, length), np.int64)
        loss_mask, starts = np.empty((count, length), bool), np.empty((count, length), bool)
        for place, (source, index) in enumerate(zip(sources.tolist(), indices.tolist(), strict=True)):
            tokens, begins = self.streams[source].row(index)
            inputs[place], labels[place] = tokens[:-1], tokens[1:]
            starts[place], loss_mask[place] = begins[:-1], ~begins[1:]
        return make_batch(inputs, labels, loss_mask, starts)


class DocumentRows:
    """Each document of one shard once, in order: rows for validation. The last row is padded. A `RowSource`.

    The loss over all rows, in nats, divided by `num_bytes` and ln 2 is bits per byte (of the first `num_documents` documents). It includes the bits that tell
    where a document ends.
    """

    def __init__(self, shards: TokenShards, *, sequence_length: int, max_tokens: int | None = None) -> None:
        within = len(shards.ends) if max_tokens is None else max(1, int(np.searchsorted(shards.ends, max_tokens, "right")))
        self.shards = shards
        self.sequence_length = sequence_length
        self.num_documents = min(within, shards.num_documents)
        self.num_tokens = int(shards.ends[self.num_documents - 1])
        self.num_bytes = int(shards.text_bytes[: self.num_documents].sum())
        self.num_rows = -(-self.num_tokens // sequence_length)
        self.fingerprint = value_fingerprint(["document rows", 1, sequence_length, self.num_documents, shards.fingerprint])

    def rows(self, start: int, count: int) -> Batch:
        """Return rows `start` to `start + count`, `[count, sequence_length]`."""
        first, wanted = start * self.sequence_length, count * self.sequence_length
        last = min(first + wanted, self.num_tokens)
        tokens, begins = np.zeros(wanted + 1, np.int64), np.zeros(wanted + 1, bool)
        tokens[: min(last + 1, self.num_tokens) - first] = self.shards.tokens[first : min(last + 1, self.num_tokens)]
        borders = self.shards.starts[np.searchsorted(self.shards.starts, first) : np.searchsorted(self.shards.starts, last + 1)]
        begins[borders - first] = True
        padding = np.arange(wanted) >= last - first
        supervised = ~begins[1:] & (np.arange(first + 1, first + wanted + 1) < self.num_tokens)
        shape = (count, self.sequence_length)
        return make_batch(tokens[:-1].reshape(shape), tokens[1:].reshape(shape), supervised.reshape(shape), begins[:-1].reshape(shape), padding.reshape(shape))


def pack_best_fit(lengths: NDArray[np.int64], capacity: int) -> list[list[int]]:
    """Put whole items into rows, longest first, each into the fullest row that still holds it. Returns item indices by row.

    Never cuts; `lengths` must not exceed `capacity`. O(n log n). Depends on lengths alone, so the number of rows is known before any shuffling.
    """
    assert not len(lengths) or lengths.max() <= capacity, "an item is longer than a row"
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (space left, row), sorted: the first that is large enough is the best fit
    for item in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[item])
        found = bisect_left(free, (need, -1))
        if found == len(free):
            rows.append([])
            space, row = capacity, len(rows) - 1
        else:
            space, row = free.pop(found)
        rows[row].append(item)
        if space > need:
            insort(free, (space - need, row))
    return rows
