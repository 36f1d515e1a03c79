"""Bits per byte of rows, as they are packed for training: what a stage watches while it trains."""

from __future__ import annotations

from math import log

import torch

from herdling.data.loader import RowSource
from herdling.train.forward import Score
from herdling.train.loop import to_device

BATCH_TOKENS = 16_384


@torch.no_grad()
def rows_bits_per_byte(score: Score, rows: RowSource, num_bytes: int, device: torch.device) -> float:
    """Return the bits that the supervised tokens of all rows need, divided by the bytes of their text."""
    nats, count = 0.0, max(1, BATCH_TOKENS // rows.sequence_length)
    for start in range(0, rows.num_rows, count):
        batch = to_device(rows.rows(start, min(count, rows.num_rows - start)), device)
        nats -= float(score(batch).logprobs.double().sum())
    return nats / log(2) / max(1, num_bytes)
