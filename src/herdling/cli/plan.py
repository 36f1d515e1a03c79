"""`herdling plan MODEL`: what fits a cluster, how long a step takes, what it costs, and the command that starts it. Starts without torch.

Searches all splits of the GPUs (`herdling.plan.layout`); with `--for serve` it plans serving. What fits nowhere gets an answer: how much
is missing, and the least cluster.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from math import log2
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from herdling.base.errors import SettingsError
from herdling.base.units import format_count, format_seconds, parse_count
from herdling.cli.reliability import forecast_run, print_answer
from herdling.model.config import LlamaConfig
from herdling.plan.goodput_forecast import Run
from herdling.plan.hardware import Gpu, find_gpu
from herdling.plan.layout import Candidate, Search, least_cluster, search, torchrun_lines
from herdling.plan.memory import Memory, inference_memory
from herdling.plan.split import Job, Stack
from herdling.plan.throughput import cost, decoding, flops_per_token, generation_seconds

WIDTH = 130
"""Characters of the table, of a narrower terminal too."""
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "cache", "reserve")


class Purpose(StrEnum):
    """What the GPUs are to do."""

    train = "train"
    sft = "sft"
    dpo = "dpo"
    ppo = "ppo"
    serve = "serve"


MODELS = {Purpose.train: (1, 0), Purpose.sft: (1, 0), Purpose.dpo: (1, 1), Purpose.ppo: (2, 2)}
"""Models that are trained, and that only score."""


class Format(StrEnum):
    """Format of matrix products."""

    bf16 = "bf16"
    fp8 = "fp8"
    fp4 = "fp4"


def plan(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A size of the papers such as llama3.1-8b, or a config.json.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="GPUs of the cluster [8].")] = None,
    gpu: Annotated[str, typer.Option("--gpu", help="Their kind: h100, a100-80gb, ...")] = "h100",
    purpose: Annotated[Purpose, typer.Option("--for", help="What they are to do.")] = Purpose.train,
    seq_len: Annotated[str | None, typer.Option("--seq-len", help="Tokens of a row [the model's context, at most 8K].")] = None,
    batch: Annotated[str, typer.Option("--batch", help="Tokens of a step; when serving, sequences at once.")] = "auto",
    tokens: Annotated[str | None, typer.Option("--tokens", help="Tokens of the whole run, for its time, energy and price.")] = None,
    document: Annotated[float | None, typer.Option("--document", help="Mean length that attention sees where masks keep documents apart.")] = None,
    precision: Annotated[Format, typer.Option("--precision", help="Format of matrix products.")] = Format.bf16,
    memory: Annotated[float | None, typer.Option("--gpu-memory", help="GiB of a GPU, in place of what its kind has.")] = None,
    link: Annotated[float | None, typer.Option("--nvlink", help="GB/s a GPU inside a server, one way.")] = None,
    nic: Annotated[float | None, typer.Option("--nic", help="GB/s a GPU between servers, one way.")] = None,
    price: Annotated[float | None, typer.Option("--price", help="Dollars for a GPU and hour.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Splits to show.")] = 5,
    reliability: Annotated[bool, typer.Option("--reliability", help="Count failures too: useful time, days. Without MODEL: Llama 3 405B's run.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="For --reliability: saving.pause_seconds=5, ...")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", metavar="FILE.svg", help="For --reliability: draw useful time over save interval.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write it for a program.")] = False,
) -> None:
    """Plan a run: what fits, how long, how much, and how to start it."""
    _check_reliability(model, tokens, purpose, reliability=reliability, has_settings=bool(set_ or picture))
    if model is None:
        _give_reliability(*forecast_run(gpus, tokens, None, set_ or [], picture), as_json=as_json)
        return
    shape, gpus = read_model(model), 8 if gpus is None else gpus
    kind = find_gpu(gpu, memory_gib=memory, link_gb_per_s=link, nic_gb_per_s=nic, dollars_per_hour=price)
    length = parse_count(seq_len, where="--seq-len") if seq_len else min(shape.max_position_embeddings, 8192)
    if gpus < 1:
        raise SettingsError(f"--gpus is {gpus}; accepted: 1 or more")
    if purpose is Purpose.serve:
        _plan_serving(shape, model, gpus, kind, length, sequences=16 if batch == "auto" else parse_count(batch, where="--batch"), as_json=as_json)
        return
    rows = gpus if batch == "auto" else even_rows(parse_count(batch, where="--batch") / length)
    trained, frozen = MODELS[purpose]
    job = Job(
        model=shape,
        seq_len=length,
        global_batch=rows,
        attended=document,
        precision=precision.value,
        trained_models=trained,
        frozen_models=frozen,
    )
    stack = Stack(loss="chunked")
    found = search(job, gpus, kind, stack)
    if not found.candidates:
        raise SettingsError(_nowhere(job, model, gpus, kind, stack, found))
    whole = parse_count(tokens, where="--tokens") if tokens else None
    described = [describe(one, job, gpus, kind, whole) for one in found.candidates[:top]]
    command = torchrun_lines(gpus, kind)
    fails = forecast_run(gpus, tokens, described[0]["tokens_per_s_per_gpu"] * gpus, set_ or [], picture) if reliability else None
    if as_json:
        answer = {"model": model, "gpus": gpus, "gpu": kind.name, "splits": described, "refused": found.refused, "command": command}
        print(json.dumps(answer | ({"reliability": fails[1]} if fails else {}), indent=2))
        return
    _print_splits(job, model, gpus, kind, found, described, command)
    if fails:
        _give_reliability(*fails, as_json=False)


def _check_reliability(model: str | None, tokens: str | None, purpose: Purpose, *, reliability: bool, has_settings: bool) -> None:
    if has_settings and not reliability:
        raise SettingsError("--set and --picture belong to --reliability. Add it, or leave them out")
    if model is None and not reliability:
        raise SettingsError("plan: no MODEL given; accepted: a size of the papers such as llama3.1-8b, a model folder or a config.json")
    if reliability and (purpose is Purpose.serve or (model is not None and tokens is None)):
        raise SettingsError("--reliability: how long training takes depends on its tokens. Add --tokens, such as 15.6T, and leave out --for serve")


def _give_reliability(run: Run, answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"reliability": answer}, indent=2))
    else:
        print_answer(run, answer)


def read_model(name: str) -> LlamaConfig:
    """Return a size of the papers by name, or the shape in a model folder or config.json."""
    from herdling.model.presets import preset

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


def even_rows(rows: float) -> int:
    """Return a near count of rows that many copies can share evenly: four to eight times a power of two (16M tokens of 8,192 are 2,048 rows)."""
    unit = 2 ** max(0, int(log2(max(rows, 1) / 4))) if rows >= 4 else 1
    return max(1, round(rows / unit) * unit)


def describe(one: Candidate, job: Job, gpus: int, gpu: Gpu, tokens: int | None) -> dict[str, Any]:
    """Return a candidate as plain data."""
    split, step = one.split, one.forecast
    described = {name: getattr(split, name) for name in ("tp", "cp", "pp", "dp", "micro_batch", "virtual_stages", "recompute", "sharding")}
    described |= {"memory_gib": _in_gib(one.memory), "step_seconds": step.seconds, "step_seconds_interval": [step.low, step.high]}
    described |= {"parts_seconds": {name: getattr(step, name) for name in ("compute", "memory", "communication", "bubble", "optimizer")}}
    described |= {"tokens_per_s_per_gpu": step.tokens_per_s_per_gpu, "mfu_causal": step.mfu_causal, "mfu_full": step.mfu_full}
    described |= {"flops_per_token_causal": flops_per_token(job, "causal"), "flops_per_token_full": flops_per_token(job, "full")}
    writing = generation_seconds(job, split, gpu) if job.trained_models > 1 else 0.0
    if writing:
        described |= {"generation_seconds": writing}
    if tokens:
        seconds = (step.seconds + writing) * tokens / job.tokens
        dollars, kilowatt_hours = cost(seconds, gpus, gpu)
        described |= {"run": {"tokens": tokens, "seconds": seconds, "gpu_hours": seconds * gpus / 3600, "dollars": dollars, "kilowatt_hours": kilowatt_hours}}
    return described


def _in_gib(memory: Memory) -> dict[str, float]:
    parts = {name: value / 2**30 for name, value in asdict(memory).items() if name in PARTS and value}
    return parts | {"total": memory.total / 2**30}


def _nowhere(job: Job, model: str, gpus: int, gpu: Gpu, stack: Stack, found: Search) -> str:
    reasons = "; ".join(f"{reason} ({count} splits)" for reason, count in found.refused.most_common(3))
    said = f"{model} on {gpus:,} x {gpu.name}: no split fits: {reasons}"
    if found.least_gib == float("inf"):
        return f"{said}; {job.global_batch:,} rows of {job.seq_len:,} tokens do not go round. Change --gpus, --batch or --seq-len"
    least = least_cluster(job, gpu, stack)
    advice = f"the least cluster is {least} x {gpu.name}" if least else f"no cluster of {gpu.name} up to 131,072 holds it"
    return f"{said}; the leanest split needs {found.least_gib:.0f} GiB a GPU, there are {gpu.memory_gib:.0f}; {advice}. Change --gpus, --gpu or --seq-len"


def _print_splits(job: Job, model: str, gpus: int, gpu: Gpu, found: Search, described: list[dict[str, Any]], command: str) -> None:
    console = Console(highlight=False, soft_wrap=True, width=max(WIDTH, Console().width))
    batch = f"{format_count(job.tokens)} tokens a step in rows of {job.seq_len:,}"
    console.print(f"{model}, {format_count(job.model.num_parameters())} parameters, on {gpus:,} x {gpu.name}: {batch}")
    table = Table(box=None, padding=(0, 1))
    for name in ("TP", "CP", "PP", "DP", "rows", "chunks", "recompute", "GiB", "step (90 %)", "tokens/s/GPU", "MFU causal", "full"):
        table.add_column(name, justify="right")
    for one in described:
        low, high = one["step_seconds_interval"]
        table.add_row(
            *(str(one[name]) for name in ("tp", "cp", "pp", "dp", "micro_batch", "virtual_stages", "recompute")),
            f"{one['memory_gib']['total']:.1f}",
            f"{one['step_seconds']:.2f}s ({low:.2f}-{high:.2f})",
            f"{one['tokens_per_s_per_gpu']:,.0f}",
            f"{one['mfu_causal']:.1%}",
            f"{one['mfu_full']:.1%}",
        )
    console.print(table)
    best = described[0]
    console.print(f"memory of the first, GiB a GPU (of {gpu.memory_gib:.0f}): " + _stack_picture(best["memory_gib"], gpu.memory_gib))
    console.print("time of the first: " + ", ".join(f"{name} {seconds:.2f}s" for name, seconds in best["parts_seconds"].items()))
    if "generation_seconds" in best:
        console.print(f"before each step the answers are written, half of each row: {best['generation_seconds']:.1f}s (assumed speeds, splits as in training)")
    if "run" in best:
        run = best["run"]
        money = f"{format_count(run['gpu_hours'])} GPU hours, ${format_count(run['dollars'])}, {format_count(run['kilowatt_hours'])} kWh"
        console.print(f"{format_count(run['tokens'])} tokens: {format_seconds(run['seconds'])}, {money}")
    for reason, count in found.refused.most_common():
        console.print(f"refused {count}: {reason}")
    console.print(f"to start on each server, with a trainer that splits (herdling's own takes one GPU so far): {command}")


def _stack_picture(parts: dict[str, float], available: float, width: int = 40) -> str:
    marks = dict(zip(PARTS, "WGOALCR", strict=True))
    bar = "".join(marks[name] * round(parts.get(name, 0) / available * width) for name in PARTS)
    return f"|{bar:.<{width}}| " + ", ".join(f"{marks[name]} {name} {parts[name]:.1f}" for name in PARTS if name in parts)


def _plan_serving(model: LlamaConfig, name: str, gpus: int, gpu: Gpu, seq_len: int, *, sequences: int, as_json: bool) -> None:
    """Print how the GPUs serve: tensor parallel inside a server, pipeline across (Llama 3, section 6.1)."""
    if sequences < 1:
        raise SettingsError(f"--batch is {sequences}; accepted: 1 sequence or more")
    tp = max(size for size in (1, 2, 4, 8, 16, 32, 64) if size <= min(gpus, gpu.domain_size) and gpus % size == 0 and model.num_attention_heads % size == 0)
    pp = gpus // tp
    memory = inference_memory(model, tp=tp, pp=pp, sequences=sequences, seq_len=seq_len)
    if memory.total > gpu.memory_gib * 2**30:
        weights = model.num_parameters() * 2 / 2**30
        raise SettingsError(
            f"{name} on {gpus} x {gpu.name}: serving needs {memory.total / 2**30:.0f} GiB a GPU, there are {gpu.memory_gib:.0f} "
            f"(weights of {weights:.0f} GiB over {gpus}, cache of {sequences} x {seq_len:,} tokens). Change --gpus, --batch or --seq-len"
        )
    per_token, prompts = decoding(model, gpu, tp=tp, pp=pp, sequences=sequences, seq_len=seq_len)
    answer = {"tp": tp, "pp": pp, "memory_gib": _in_gib(memory), "seconds_per_token": per_token, "prompt_seconds": prompts}
    answer |= {"tokens_per_s": sequences / per_token, "sequences": sequences, "seq_len": seq_len}
    if as_json:
        print(json.dumps({"model": name, "gpus": gpus, "gpu": gpu.name, **answer}, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{name} on {gpus} x {gpu.name}, TP {tp} x PP {pp}: {sequences} sequences of {seq_len:,} tokens")
    console.print(f"memory, GiB a GPU (of {gpu.memory_gib:.0f}): " + _stack_picture(_in_gib(memory), gpu.memory_gib))
    console.print(f"{per_token * 1000:.1f} ms a token, {sequences / per_token:,.0f} tokens/s together; reading the prompts {prompts:.2f}s")
