"""A llama2.c checkpoint (`.bin`, version 0: seven numbers, then float32 weights) as a Llama. Reads only.

The file has no names, no checksum and no tokenizer: it is believed when its size is the one that its seven numbers ask for. It keeps RoPE's pairs as neighbours
(Meta's order); our rows have them half a head apart (Hugging Face's), so rows of queries and keys are permuted.
"""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from torch import Tensor

from herdling.base.errors import ModelError
from herdling.checkpoint.huggingface import model_from_state
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama

_HEADER = struct.Struct("<7i")


def load_llama2c(path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Llama:
    """Load a version 0 `.bin` file; `dtype` None keeps float32.

    Raises:
        ModelError: no such file, or its size is not what its header asks for.
    """
    if not path.is_file():
        raise ModelError(f"{path}: is not there")
    data = path.read_bytes()
    config = _read_config(data, path)
    return model_from_state(config, _read_weights(data, config, path), device=device, dtype=dtype)


def _read_config(data: bytes, path: Path) -> LlamaConfig:
    if len(data) < _HEADER.size:
        raise ModelError(f"{path}: has {len(data)} bytes, a llama2.c file begins with {_HEADER.size} bytes of sizes")
    dim, hidden, layers, heads, kv_heads, vocab, context = _HEADER.unpack_from(data)
    if min(dim, hidden, layers, heads, kv_heads, context) <= 0 or dim % heads or heads % kv_heads:
        raise ModelError(f"{path}: begins with the sizes {_HEADER.unpack_from(data)}, which are no model's: it is no llama2.c file of version 0")
    return LlamaConfig(
        vocab_size=abs(vocab),
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=dim // heads,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,  # both are constants of run.c, not in the file
        rope_theta=10_000.0,
        tie_word_embeddings=vocab > 0,
    )


def _layout(config: LlamaConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Return the parts of the file in order; `{}` in a name stands for the layer, which is the first dimension. Empty name: skipped."""
    layers, dim, hidden = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    angles = (config.max_position_embeddings, config.head_dim // 2)
    return [
        ("model.embed_tokens.weight", (config.vocab_size, dim)),
        ("model.layers.{}.input_layernorm.weight", (layers, dim)),
        ("model.layers.{}.self_attn.q_proj.weight", (layers, queries, dim)),
        ("model.layers.{}.self_attn.k_proj.weight", (layers, keys, dim)),
        ("model.layers.{}.self_attn.v_proj.weight", (layers, keys, dim)),
        ("model.layers.{}.self_attn.o_proj.weight", (layers, dim, queries)),
        ("model.layers.{}.post_attention_layernorm.weight", (layers, dim)),
        ("model.layers.{}.mlp.gate_proj.weight", (layers, hidden, dim)),
        ("model.layers.{}.mlp.down_proj.weight", (layers, dim, hidden)),
        ("model.layers.{}.mlp.up_proj.weight", (layers, hidden, dim)),
        ("model.norm.weight", (dim,)),
        ("", angles),  # cosines and sines, which follow from the config
        ("", angles),
        *([] if config.tie_word_embeddings else [("lm_head.weight", (config.vocab_size, dim))]),
    ]


def _read_weights(data: bytes, config: LlamaConfig, path: Path) -> dict[str, Tensor]:
    layout = _layout(config)
    expected = _HEADER.size + 4 * sum(torch.Size(shape).numel() for _, shape in layout)
    if len(data) != expected:
        raise ModelError(f"{path}: has {len(data):,} bytes, its sizes ask for {expected:,}: it is cut short, or no llama2.c file of version 0")
    values = torch.frombuffer(bytearray(data), dtype=torch.float32, offset=_HEADER.size)
    state: dict[str, Tensor] = {}
    for (name, shape), part in zip(layout, values.split([torch.Size(shape).numel() for _, shape in layout]), strict=True):
        weight = part.view(shape)
        if "q_proj" in name or "k_proj" in name:
            weight = half_split(weight, config.head_dim)
        if "{}" in name:
            state |= {name.format(layer): one.clone() for layer, one in enumerate(weight)}
        elif name:
            state[name] = weight.clone()
    return state


def half_split(weight: Tensor, head_dim: int) -> Tensor:
    """Move RoPE's pairs in rows of `[..., heads * head_dim, D]` from neighbours (2i, 2i + 1) to (i, i + head_dim / 2)."""
    *layers, rows, inputs = weight.shape
    return weight.view(*layers, rows // head_dim, head_dim // 2, 2, inputs).transpose(-3, -2).reshape(weight.shape)
