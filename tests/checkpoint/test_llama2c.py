from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from herdling.base.errors import ModelError
from herdling.checkpoint.llama2c import load_llama2c
from herdling.model.transformer import Llama
from tests.generate.toy_model import toy_model

PER_LAYER = [
    ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    ("post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"),
]


def write_bin(path: Path, model: Llama) -> None:
    """Write a model as llama2.c does; a row of a head moves from place i (or i + half) to place 2i (or 2i + 1)."""
    config, state = model.config, model.state_dict()
    vocab = config.vocab_size if config.tie_word_embeddings else -config.vocab_size
    sizes = (config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads, vocab)
    parts = [state["model.embed_tokens.weight"]]
    for name in (name for group in PER_LAYER for name in group):
        for layer in range(config.num_hidden_layers):
            weight = state[f"model.layers.{layer}.{name}.weight"]
            if "q_proj" in name or "k_proj" in name:
                half, width = config.head_dim // 2, config.head_dim
                order = [head + (place % 2) * half + place // 2 for head in range(0, weight.shape[0], width) for place in range(width)]
                weight = weight[order]
            parts.append(weight)
    parts += [state["model.norm.weight"], torch.zeros(config.max_position_embeddings * config.head_dim)]
    if not config.tie_word_embeddings:
        parts.append(state["lm_head.weight"])
    numbers = torch.cat([part.flatten() for part in parts]).numpy().tobytes()
    path.write_bytes(struct.pack("<7i", *sizes, config.max_position_embeddings) + numbers)


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_gives_the_model_that_was_written(tmp_path: Path, tied: bool) -> None:
    model = toy_model(tie_word_embeddings=tied)
    write_bin(tmp_path / "toy.bin", model)
    loaded = load_llama2c(tmp_path / "toy.bin")
    assert loaded.config == model.config
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())


def test_a_file_that_is_cut_short_is_refused_with_both_sizes(tmp_path: Path) -> None:
    write_bin(tmp_path / "toy.bin", toy_model())
    data = (tmp_path / "toy.bin").read_bytes()
    (tmp_path / "toy.bin").write_bytes(data[:-4])
    with pytest.raises(ModelError, match=f"{len(data) - 4:,} bytes, its sizes ask for {len(data):,}"):
        load_llama2c(tmp_path / "toy.bin")


@pytest.mark.parametrize(("content", "message"), [(b"abc", "has 3 bytes"), (b"\x01" + b"\x00" * 50, "no llama2.c file"), (b"\xff" * 40, "no llama2.c file")])
def test_another_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "toy.bin").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_llama2c(tmp_path / "toy.bin")
