"""A Llama of two layers, and prompts with responses by chance, for the tests of DPO."""

from __future__ import annotations

import numpy as np
import torch

from herdling.base.seeds import stream
from herdling.data.preference_rows import PreferredResponses, head_each
from herdling.data.shared_rows import SharedPrompt
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama

CPU = torch.device("cpu")


def toy_llama(seed=0):
    config = LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=1024,
    )  # fmt: skip
    model = Llama(config)
    model.init_weights(seed)
    with torch.no_grad():  # a fresh model finds all tokens about as likely, whatever stands before
        for weight in model.parameters():
            weight.mul_(3 if weight.ndim == 2 else 1)
    return model


def drawn(scale=1, sizes=((20, 5, 9, 3), (7, 11, 2), (30, 1, 1, 6), (1, 8, 4))):
    """Prompts and responses by chance, with masks by chance: some tokens are scored, some are told, some neither."""
    chance = stream(0, "shared preferences")
    found = []
    for prompt, *responses in sizes:
        ids = [chance.integers(1, 61, size * scale).astype(np.int32) for size in (prompt, *responses)]
        masks = [[chance.random(size * scale) < 0.7 for size in responses] for _ in range(2)]
        for told in masks[1]:
            told[0] = True
        ranks = tuple(range(1, len(responses) + 1))
        shared = head_each(SharedPrompt(prompt=ids[0], responses=tuple(ids[1:])))
        found.append(PreferredResponses(shared=shared, ranks=ranks, scored=tuple(masks[0]), told=tuple(masks[1]), reference=(0.0,) * len(ranks)))
    return found
