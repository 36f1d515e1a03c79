"""Dialogs to vectors: the mean of a model's last hidden states over a whole dialog, scaled to length 1. Their products tell how alike dialogs are.

Llama 3 (section 4.2.3) took RoBERTa for it; any model of ours will do, a base model or a chat model. Costs one forward a dialog.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from herdling.generate.loaded import LoadedModel
from herdling.types import Dialog

FORWARD_TOKENS = 8192


@torch.inference_mode()
def embed_dialogs(model: LoadedModel, dialogs: Sequence[Dialog]) -> NDArray[np.float32]:
    """Return a vector of length 1 for each dialog, float32 `[N, D]`. Of a dialog longer than the context the beginning is read.

    Raises:
        FormatError: a base model without a chat format, or a dialog that the format cannot express.
    """
    context = model.config.max_position_embeddings
    encoded = [model.chat_format.encode(dialog).ids[:context] for dialog in dialogs]
    found = np.zeros((len(dialogs), model.config.hidden_size), np.float32)
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(encoded[order[stop]]) <= FORWARD_TOKENS:
            stop += 1
        members = order[start:stop]
        found[members] = _means(model, [encoded[index] for index in members])
        start = stop
    return found


def _means(model: LoadedModel, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Return the vectors of rows of ids. What pads a row stands behind its last token, where no earlier position reads it."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *([0] * (length - len(row)))] for row in rows], device=model.model.output_weight.device)
    filled = torch.tensor([[position < len(row) for position in range(length)] for row in rows], device=ids.device)
    hidden = model.model(ids).float() * filled[..., None]
    means = torch.nn.functional.normalize(hidden.sum(1), dim=-1)  # the mean and the sum point the same way
    return means.cpu().numpy().astype(np.float32)
