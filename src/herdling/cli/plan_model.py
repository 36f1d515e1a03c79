"""What is planned, as the command line names it: a size of the papers or a config.json, and a batch that copies can share. Starts without torch."""

from __future__ import annotations

import json
from math import log2
from pathlib import Path

from herdling.base.errors import SettingsError
from herdling.base.units import parse_count
from herdling.model.config import LlamaConfig
from herdling.model.presets import preset


def read_model(name: str) -> LlamaConfig:
    """Return a size of the papers by name, or the shape in a model folder or config.json."""
    path = Path(name)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        return preset(name)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        heads = raw["num_attention_heads"]
        optional = {key: raw[key] for key in ("max_position_embeddings", "tie_word_embeddings") if key in raw}
        return LlamaConfig(
            vocab_size=raw["vocab_size"],
            hidden_size=raw["hidden_size"],
            intermediate_size=raw["intermediate_size"],
            num_hidden_layers=raw["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=raw.get("num_key_value_heads", heads),
            head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
            **optional,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise SettingsError(f"{path}: is no config of a Llama ({error!r}); accepted: Hugging Face's config.json") from None


def read_length(seq_len: str | None, model: LlamaConfig) -> int:
    """Return the tokens of a row: as given, else the model's context, at most 8K."""
    return parse_count(seq_len, where="--seq-len") if seq_len else min(model.max_position_embeddings, 8192)


def even_rows(rows: float) -> int:
    """Return a near count of rows that many copies can share evenly: four to eight times a power of two (16M tokens of 8,192 are 2,048 rows)."""
    unit = 2 ** max(0, int(log2(max(rows, 1) / 4))) if rows >= 4 else 1
    return max(1, round(rows / unit) * unit)
