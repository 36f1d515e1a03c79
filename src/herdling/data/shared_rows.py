"""Rows in which the responses to a prompt share it: the prompt stands once, each response behind it, blind to the others.

A response's positions go on where the prompt's end, and it reads the prompt and itself (`model/masks.py`), so it is read exactly as in a row of its own; the
prompt is computed once for all of them. Llama 3 packs so (section 4.1.2) and does not say how it keeps responses apart. Documents are packed whole, best fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from herdling.data.packing import pack_best_fit
from herdling.types import Batch

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrompt:
    """A prompt and the responses to it, as token ids; each response ends with the token that ends its turn."""

    prompt: Ids
    responses: tuple[Ids, ...]

    @property
    def length(self) -> int:
        """Positions that it takes in a row."""
        return len(self.prompt) + sum(map(len, self.responses))

    @property
    def longest(self) -> int:
        """Positions that a row of the prompt with its longest response would take: this must fit the model's context."""
        return len(self.prompt) + max(map(len, self.responses))


def split_prompt(encoded: Sequence[Sequence[int]], prompt_length: int) -> SharedPrompt:
    """Return what whole dialogs, equal but for their last message, share: `prompt_length` tokens, or fewer where a tokenizer merges over that border."""
    ids = [np.array(one, np.int32) for one in encoded]
    shared = min(prompt_length, *(len(one) - 1 for one in ids))
    differ = [np.flatnonzero(one[:shared] != ids[0][:shared]) for one in ids[1:]]
    shared = min([shared, *(int(places[0]) for places in differ if len(places))])
    return SharedPrompt(prompt=ids[0][:shared], responses=tuple(one[shared:] for one in ids))


ROW_LENGTHS = (1, 1.25, 1.5, 1.75, 2, 3, 4)
"""Row lengths to choose from, as multiples of the longest document."""


def row_length_for(lengths: Sequence[int], batch: int, hidden_size: int) -> int:
    """Return the row length at which documents of these lengths, packed `batch` at a time, cost a model of this width the least.

    Longer rows are filled better, yet their positions meet more keys: a position costs 24 D^2 + 2 D T FLOPs a layer, in proportion 12 D + T.
    """
    longest, array = max(lengths), np.array(lengths, np.int64)
    chunks = [array[start : start + batch] for start in range(0, len(array), batch)]
    candidates = [int(longest * times) for times in ROW_LENGTHS]
    return min(candidates, key=lambda length: sum(len(pack_best_fit(chunk, length)) for chunk in chunks) * length * (12 * hidden_size + length))


def lay_out(documents: Sequence[SharedPrompt], length: int, pad_id: int) -> tuple[Batch, NDArray[np.int64]]:
    """Pack documents into as few rows of `length` as best fit finds. Returns the batch, and where each response ends: its row and position, int64 `[R, 2]`.

    The responses come in the order of the documents and within each in its own. Nothing is supervised: `labels` are 0, `loss_mask` is False.
    """
    import torch

    rows = pack_best_fit(np.array([document.length for document in documents], np.int64), length)
    inputs = np.full((len(rows), length), max(0, pad_id), np.int64)
    positions, responses = np.zeros_like(inputs), np.zeros_like(inputs)
    numbers = np.full_like(inputs, -1)
    ends: list[list[tuple[int, int]]] = [[] for _ in documents]
    for row, packed in enumerate(rows):
        at = 0
        for number, index in enumerate(packed):
            document, start = documents[index], at
            for part, ids in enumerate((document.prompt, *document.responses)):
                place = slice(at, at + len(ids))
                inputs[row, place], responses[row, place], numbers[row, place] = ids, part, number
                positions[row, place] = np.arange(len(ids)) + (len(document.prompt) if part else 0)
                at += len(ids)
                if part:
                    ends[index].append((row, at - 1))
            assert at - start == document.length
    tensors = map(torch.from_numpy, (inputs, np.zeros_like(inputs), np.zeros(inputs.shape, bool), positions, numbers, responses))
    names = ("input_ids", "labels", "loss_mask", "position_ids", "document_ids", "response_ids")
    places = np.array([place for found in ends for place in found], np.int64).reshape(-1, 2)
    return Batch(**dict(zip(names, tensors, strict=True))), places
