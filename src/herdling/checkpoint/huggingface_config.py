"""`config.json` and `generation_config.json` of a Hugging Face folder, to our settings and back; no torch.

Reads what transformers 4 and 5 write (`rope_scaling` with `rope_theta`, or `rope_parameters`) and writes what both read. A field that would change the
mathematics of a Llama (biases, another activation, another kind of RoPE scaling, quantised weights) is refused by name, never ignored: a model that loads
is the model that was trained. Fields that say nothing about the mathematics (dropout, cache flags, versions) are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herdling.base.artifact import write_json_atomic
from herdling.base.decode import decode, encode
from herdling.base.errors import ModelError, SettingsError
from herdling.model.config import LlamaConfig
from herdling.tokenizer.base import Tokenizer

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"

# What a field must say, if it is there at all, for the model to be a Llama as the papers have it (LLaMA, section 2.2: no biases, SwiGLU, full rotation).
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1, None),
    "quantization_config": (None,),
}
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def load_config(folder: Path) -> LlamaConfig:
    """Read `config.json` of a model folder.

    Raises:
        ModelError: no such file, or a config that is not a Llama's; names the field, what it says and what is accepted.
    """
    path = folder / CONFIG
    return config_from_huggingface(read_config(folder), str(path))


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` as plain data. Raises `ModelError` when there is none, or when it is damaged."""
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(f"{folder}: holds no {CONFIG}: it is not a model folder. Accepted: a Hugging Face folder, or a llama2.c .bin file")
    return _read_json(path)


def config_from_huggingface(data: Mapping[str, Any], where: str) -> LlamaConfig:
    """Turn the content of a `config.json` into our settings. Raises `ModelError` as `load_config` does."""
    for name, accepted in _REQUIRED.items():
        if name in data and data[name] not in accepted:
            raise ModelError(f"{where}: {name} is {data[name]!r}; a Llama here has {accepted[0]!r}, and nothing else is implemented")
    missing = [name for name in _SIZES if name not in data]
    if missing:
        raise ModelError(f"{where}: lacks {', '.join(missing)}; without these the shape of the model is unknown")
    heads = data["num_attention_heads"]
    theta, scaling = _rope(data, where)
    fields = {
        **{name: data[name] for name in _SIZES},
        "num_key_value_heads": data.get("num_key_value_heads") or heads,
        "head_dim": data.get("head_dim") or data["hidden_size"] // max(heads, 1),
        # Absent fields have the defaults of transformers' LlamaConfig, which is what wrote the file.
        "max_position_embeddings": data.get("max_position_embeddings", 2048),
        "rms_norm_eps": data.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": data.get("tie_word_embeddings", False),
    }
    try:
        return decode(LlamaConfig, fields, where)
    except (SettingsError, ValueError) as error:
        raise ModelError(str(error)) from None


def _rope(data: Mapping[str, Any], where: str) -> tuple[float, dict[str, Any] | None]:
    """Return the base and the scaling of RoPE, from either spelling."""
    rope = dict(data.get("rope_parameters") or data.get("rope_scaling") or {})
    theta = float(rope.pop("rope_theta", None) or data.get("rope_theta") or 10_000.0)
    kind = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    if rope.pop("partial_rotary_factor", 1) not in (1, None):
        raise ModelError(f"{where}: partial_rotary_factor must be 1: a Llama rotates whole heads")
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ModelError(f"{where}: rope_type is {kind!r}; implemented are 'default' and 'llama3' (Llama 3.1)")
    return theta, rope


def config_to_huggingface(config: LlamaConfig, *, dtype: str, bos_id: int, eos_ids: tuple[int, ...], pad_id: int | None) -> dict[str, Any]:
    """Return the content of a `config.json` that transformers 4 and 5, vLLM and llama.cpp read alike. `dtype` is such as "float32"."""
    fields = encode(config)
    scaling = fields.pop("rope_scaling")
    rope = {"rope_type": "default"} if scaling is None else {**scaling, "rope_type": "llama3"}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **fields,
        "rope_scaling": None if scaling is None else rope,
        # Transformers 5 reads this one, 4 the one above with rope_theta: both say the same.
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": bos_id,
        "eos_token_id": eos_ids[0] if len(eos_ids) == 1 else list(eos_ids),
        "pad_token_id": pad_id,
        "torch_dtype": dtype,
        "dtype": dtype,
        "use_cache": True,
    }


REWARD_ARCHITECTURE = "LlamaForSequenceClassification"
TOKENIZER_CONFIG = "tokenizer_config.json"


def is_reward_model(folder: Path) -> bool:
    """Say whether a model folder holds a reward model. Raises `ModelError` when it holds no readable `config.json`, or a classifier with several labels."""
    data = read_config(folder)
    if REWARD_ARCHITECTURE not in (data.get("architectures") or ()):
        return False
    labels = len(data.get("id2label") or {}) or data.get("num_labels", 2)
    if labels != 1:
        raise ModelError(f"{folder}: is a classifier of {labels} labels; a reward model has one, the score")
    return True


def reward_config(content: Mapping[str, Any], folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Turn the content of a Llama's `config.json` into that of a reward model, and name its padding in the tokenizer's files in `folder`.

    transformers reads a score at the last token that is not padding. Padding must therefore never be the token that ends a turn, else the score is read one
    token early; a tokenizer without padding takes a token that never ends a dialog, `<unk>` or the one that begins texts.
    """
    ids = tokenizer.special_ids
    pad_id = tokenizer.pad_id if tokenizer.pad_id >= 0 else ids.get("<unk>", tokenizer.bos_id)
    path = folder / TOKENIZER_CONFIG
    names = {index: name for name, index in ids.items()}
    write_json_atomic(path, {**_read_json(path), "pad_token": names[pad_id]})
    labels = {"id2label": {"0": "score"}, "label2id": {"score": 0}}
    return {**content, "architectures": [REWARD_ARCHITECTURE], "pad_token_id": pad_id, **labels, "use_cache": False}


def generation_config(*, bos_id: int, eos_ids: tuple[int, ...], pad_id: int | None) -> dict[str, Any]:
    """Return the content of a `generation_config.json`: every id that ends an answer, and Llama's sampling defaults (those of Meta's code)."""
    config: dict[str, Any] = {"bos_token_id": bos_id, "eos_token_id": list(eos_ids), "do_sample": True, "temperature": 0.6, "top_p": 0.9}
    return config if pad_id is None else {**config, "pad_token_id": pad_id}


def load_stop_ids(folder: Path) -> tuple[int, ...]:
    """Return the ids that end an answer: of `generation_config.json`, else of `config.json`; none if neither names one."""
    path = folder / GENERATION_CONFIG
    declared = _read_json(path).get("eos_token_id") if path.is_file() else None
    if declared is None:
        declared = read_config(folder).get("eos_token_id")
    if declared is None:
        return ()
    return tuple(declared) if isinstance(declared, list) else (declared,)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: is damaged ({error})") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path}: holds a {type(data).__name__}, expected a JSON object")
    return data
