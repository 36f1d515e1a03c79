"""What `herdling plan MODEL` does: reads what is asked, plans training or serving on a cluster, and gives the answer. Starts without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import log2
from pathlib import Path

from herdling.base.errors import SettingsError
from herdling.base.units import parse_count
from herdling.cli.plan_serving import plan_serving
from herdling.cli.plan_table import print_plan
from herdling.cli.plan_training import plan_training, write_picture
from herdling.model.config import LlamaConfig
from herdling.model.presets import preset
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.split import Job, Precision
from herdling.plan.stacks import find_stack

MODELS = {"train": (1, 0), "sft": (1, 0), "dpo": (1, 1), "ppo": (2, 2)}
"""Models that are trained, and that only score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, as the command line says it."""

    name: str
    model: LlamaConfig
    num_gpus: int
    gpu: Gpu
    purpose: str
    seq_len: str | None
    batch: str
    tokens: str | None
    document: float | None
    precision: Precision
    stack: str
    top: int
    overrides: tuple[str, ...] | None
    """Settings of the reliability; None where it is not asked for."""
    picture: Path | None
    efficiency: Efficiency | None = None
    """A measured machine's own scalars, in place of the shipped ones."""


def plan_cluster(asked: Question, *, as_json: bool) -> None:
    """Plan, and print the answer. Raises `SettingsError` for what cannot be."""
    if asked.num_gpus < 1:
        raise SettingsError(f"--gpus is {asked.num_gpus}; accepted: 1 or more")
    length = read_length(asked.seq_len, asked.model)
    if asked.purpose == "serve":
        sequences = 16 if asked.batch == "auto" else read_count("--batch", asked.batch)
        plan_serving(asked.model, asked.name, asked.num_gpus, asked.gpu, length, sequences=sequences, as_json=as_json)
        return
    tokens = read_count("--tokens", asked.tokens) if asked.tokens else None
    planned = plan_training(
        read_job(asked, length),
        asked.name,
        asked.num_gpus,
        asked.gpu,
        find_stack(asked.stack),
        purpose=asked.purpose,
        top=asked.top,
        tokens=tokens,
        efficiency=asked.efficiency,
    )
    if asked.overrides is not None:
        from herdling.cli.reliability import forecast_run, print_answer

        speed = planned.described[0]["tokens_per_s_per_gpu"] * asked.num_gpus
        run, failing = forecast_run(asked.num_gpus, asked.tokens, speed, asked.overrides, asked.picture)
    elif asked.picture:
        write_picture(planned, asked.picture)
    if as_json:
        print(json.dumps(planned.as_dict() | ({} if asked.overrides is None else {"reliability": failing}), indent=2))
        return
    print_plan(planned)
    if asked.overrides is not None:
        print_answer(run, failing)


def read_job(asked: Question, length: int) -> Job:
    """Return the step that is planned."""
    trained, frozen = MODELS[asked.purpose]
    batch = asked.num_gpus * length if asked.batch == "auto" else read_count("--batch", asked.batch)
    if batch < length:
        raise SettingsError(f"--batch is {batch:,} tokens, less than one row; accepted: {length:,} or more, or a smaller --seq-len")
    if asked.document is not None and not 1 <= asked.document <= length:
        raise SettingsError(f"--document is {asked.document:g}; accepted: between 1 and the tokens of a row, {length:,}")
    return Job(
        model=asked.model,
        seq_len=length,
        global_batch=asked.num_gpus if asked.batch == "auto" else even_rows(batch / length),
        attended=asked.document,
        precision=asked.precision,
        trained_models=trained,
        frozen_models=frozen,
    )


def read_count(option: str, text: str) -> int:
    """Return a count such as 4M that is at least 1."""
    count = parse_count(text, where=option)
    if count < 1:
        raise SettingsError(f"{option} is {text}; accepted: 1 or more")
    return count


def read_model(name: str) -> LlamaConfig:
    """Return a size of the papers by name, or the shape in a model folder or config.json."""
    path = Path(name)
    if name and path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise SettingsError(f"{name}: has no config.json; accepted: a model folder, a config.json, or a size of the papers such as llama3.1-8b")
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
    return read_count("--seq-len", seq_len) if seq_len else min(model.max_position_embeddings, 8192)


def even_rows(rows: float) -> int:
    """Return a near count of rows that many copies can share evenly: four to eight times a power of two (16M tokens of 8,192 are 2,048 rows)."""
    unit = 2 ** max(0, int(log2(max(rows, 1) / 4))) if rows >= 4 else 1
    return max(1, round(rows / unit) * unit)
