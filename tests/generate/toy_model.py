"""A small model with real tokenizers and random weights: fast, and with every part that a large one has."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch

from herdling.generate.engine import Engine
from herdling.model.config import LlamaConfig, RopeScalingConfig
from herdling.model.transformer import Llama
from herdling.tokenizer import Tokenizer
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece

TEXT = "The quick brown fox asks the llama: which module has Counter? It is collections, says the llama 🦙, and 12 + 30 is 42.\n"


@cache
def toy_tokenizer(family: Literal["llama2", "llama3"] = "llama3") -> Tokenizer:
    """A tokenizer of about 330 ids."""
    texts = [TEXT * 40]
    return train_byte_level_bpe(texts, 330) if family == "llama3" else train_sentencepiece(texts, 330)


def toy_config(**changes: Any) -> LlamaConfig:
    """Two layers, grouped heads, a context of 64."""
    fields: dict[str, Any] = {
        "vocab_size": 330,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 64,
    }
    return LlamaConfig(**{**fields, **changes})


def toy_model(seed: int = 1, **changes: Any) -> Llama:
    """Random weights with unequal gains, spread enough that likeliest tokens differ clearly."""
    model = Llama(toy_config(**changes))
    model.init_weights(seed)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.copy_(0.5 + torch.rand(weight.shape, generator=chance))
        model.output_weight.mul_(20)
        # Special tokens (of either tokenizer) are never the likeliest, so that answers do not end by accident.
        model.output_weight[[0, 1, 2, *range(314, model.config.vocab_size)]] = 0
    return model.eval()


def toy_engine(seed: int = 1, **changes: Any) -> Engine:
    """An engine over a toy model."""
    return Engine(toy_model(seed, **changes), toy_tokenizer())


SHAPES: dict[str, dict[str, Any]] = {
    "every head its own key": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "grouped": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "one key for odd heads": {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16},
    "tied": {"tie_word_embeddings": True},
    "wide heads": {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 40},
    "stretched RoPE": {"rope_theta": 5e5, "rope_scaling": RopeScalingConfig(factor=8.0, original_max_position_embeddings=16)},
}
