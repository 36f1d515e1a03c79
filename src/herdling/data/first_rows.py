"""The first rows that a stage trained on, kept beside the model as plain JSON.

So a model can say later what it was really shown, token by token with mask and document borders, also on another machine and without the data. A few kilobytes;
imports no torch to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from herdling.base.artifact import write_json_atomic
from herdling.base.errors import DataError
from herdling.types import Batch

FILE = "first_rows.json"
MAX_ROWS = 4
COLUMNS = ("input_ids", "labels", "loss_mask", "document_ids")

Rows = Mapping[str, list[list[int]]]
"""Name of a tensor of `Batch` -> its rows."""


class Feed(Protocol):
    """Where batches come from (`train.loop.Feed`)."""

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield the batch of this step, then of each following one."""
        ...


def keep_first_rows(folder: Path, feed: Feed) -> None:
    """Write the first rows of step 0 into a folder, once: a stage that goes on after an interruption finds them there."""
    if not (folder / FILE).is_file():
        batch = next(iter(feed.batches(0)), None)
        if batch is not None:
            write_json_atomic(folder / FILE, plain_rows(batch))


def plain_rows(batch: Batch, most: int = MAX_ROWS) -> Rows:
    """Return the first rows of a batch as plain numbers (masks as 0 and 1)."""
    return {name: getattr(batch, name)[:most].int().tolist() for name in COLUMNS}


def read_first_rows(folder: Path) -> Rows:
    """Read them back. Raises `DataError` where none were kept."""
    try:
        rows: Rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: keeps no rows of training ({FILE}). Look at a model that a stage trained, or at tokens") from None
    return rows
