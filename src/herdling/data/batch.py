"""Build a `Batch` from arrays of token ids and the places where documents begin.

A document never sees its neighbour in a row: `document_ids` tell them apart and `position_ids` restart with each (the reset is [unspecified] in the papers;
with rotary positions only distances count, so it changes nothing but keeps every position below the row's length). Costs a few nanoseconds a token.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdling.types import Batch

PADDING_DOCUMENT = -1


def make_batch(
    input_ids: NDArray[Any], labels: NDArray[Any], loss_mask: NDArray[np.bool_], starts: NDArray[np.bool_], padding: NDArray[np.bool_] | None = None
) -> Batch:
    """Build a batch of rows `[B, T]`. `starts` is True where a document begins, `padding` where there is none; column 0 always begins one.

    `labels` are what each position predicts. Where `loss_mask` is False, `labels` become 0: an id that every vocabulary has.
    """
    import torch

    starts[:, 0] = True
    columns = np.arange(input_ids.shape[1])
    position_ids = columns - np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    document_ids = np.cumsum(starts, axis=1, dtype=np.int64) - 1
    if padding is not None:
        position_ids[padding] = 0
        document_ids[padding] = PADDING_DOCUMENT
    return Batch(
        input_ids=torch.from_numpy(input_ids.astype(np.int64)),
        labels=torch.from_numpy(np.where(loss_mask, labels, 0).astype(np.int64, copy=False)),
        loss_mask=torch.from_numpy(np.ascontiguousarray(loss_mask)),
        position_ids=torch.from_numpy(position_ids),
        document_ids=torch.from_numpy(document_ids),
    )


def concatenate_rows(batches: list[Batch]) -> Batch:
    """Return the rows of several batches as one."""
    import torch

    names = [field.name for field in fields(Batch) if getattr(batches[0], field.name) is not None]
    return Batch(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in names})


def padding_rows(num_rows: int, length: int) -> Batch:
    """Return rows that hold nothing: they fill up a last step so that every step, on every rank, has the same shape, and add nothing to the loss."""
    empty = np.zeros((num_rows, length), np.int64)
    return make_batch(empty, empty, empty.astype(bool), empty.astype(bool), ~empty.astype(bool))
