"""Bits per byte: how many bits a model needs for held-out text, comparable between tokenizers and with a compressor.

Reads the validation shards of the data room. Documents are never mixed; each is read in windows that overlap by half, so that past a document's beginning
every token is predicted from at least half a window: about twice the tokens of one plain pass. The bits that tell where a document ends are counted, those
of the byte count are of its text. `xz` is given all documents as one stream, which is kind to it.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from herdling.data.token_shards import TokenShards
from herdling.model.heads import token_logprobs

if TYPE_CHECKING:
    from herdling.model.transformer import Llama

BATCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """What a model makes of one held-out text: the sum of negative log-probabilities in nats, over how many tokens and bytes."""

    nats: float
    num_tokens: int
    num_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """nats / ln 2 / bytes."""
        return self.nats / log(2) / self.num_bytes if self.num_bytes else 0.0

    @property
    def perplexity_per_token(self) -> float:
        """exp(nats / tokens): depends on the tokenizer."""
        return float(np.exp(self.nats / self.num_tokens)) if self.num_tokens else 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `first` to `last` of a document as input; those from `scored` on are the predictions that count."""

    document: int
    first: int
    scored: int
    last: int


def windows(lengths: Iterable[int], length: int) -> Iterator[Window]:
    """Yield the windows of documents of these token counts: at most `length` inputs each, in steps of half, every token but the first scored once."""
    step = max(1, length // 2)
    for document, size in enumerate(lengths):
        scored = 1
        while scored < size:
            last = min(size, length + 1) if scored == 1 else min(size, scored + step)
            yield Window(document, max(0, last - length - 1), scored, last)
            scored = last


def num_documents_within(shards: TokenShards, max_tokens: int | None) -> int:
    """Return how many whole documents stand within the first `max_tokens`: all without a limit, at least one."""
    return shards.num_documents if max_tokens is None else max(1, int(np.searchsorted(shards.ends, max_tokens, "right")))


@torch.inference_mode()
def likelihood(model: Llama, shards: TokenShards, *, window: int, max_tokens: int | None = None) -> Likelihood:
    """Score the documents of a shard (of the first `max_tokens`, whole documents) with windows of `window` tokens.

    Documents must begin with the token that the model was trained to begin with (the shards' BOS): the first token itself is never predicted.
    """
    count = num_documents_within(shards, max_tokens)
    device = next(model.parameters()).device
    # Neighbours of like length share a batch: little padding.
    todo = sorted(windows(shards.lengths[:count].tolist(), window), key=lambda part: part.last - part.first)
    nats, num_tokens = 0.0, 0
    rows = max(1, BATCH_TOKENS // window)
    for start in range(0, len(todo), rows):
        inputs, labels, mask = _batch(shards, todo[start : start + rows])
        hidden = model(inputs.to(device))
        nats -= float(token_logprobs(hidden, model.output_weight, labels.to(device), mask.to(device)).double().sum())
        num_tokens += int(mask.sum())
    return Likelihood(nats=nats, num_tokens=num_tokens, num_bytes=int(shards.text_bytes[:count].sum()))


def _batch(shards: TokenShards, parts: list[Window]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return inputs, labels and the mask of what counts, `[rows, T]`; rows are padded at the end, which a causal model never looks at."""
    width = max(part.last - part.first for part in parts) - 1
    inputs: NDArray[Any] = np.zeros((len(parts), width), np.int64)
    labels, mask = np.zeros_like(inputs), np.zeros((len(parts), width), bool)
    for row, part in enumerate(parts):
        ids = shards.document(part.document)[part.first : part.last]
        inputs[row, : len(ids) - 1], labels[row, : len(ids) - 1] = ids[:-1], ids[1:]
        mask[row, part.scored - part.first - 1 : len(ids) - 1] = True
    return torch.from_numpy(inputs), torch.from_numpy(labels), torch.from_numpy(mask)


def xz_bits_per_byte(texts: Iterable[str]) -> float:
    """Return the bits per byte that `xz -9 -e` needs for these texts as one stream, its header included."""
    data = "".join(texts).encode()
    return 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data) if data else 0.0
