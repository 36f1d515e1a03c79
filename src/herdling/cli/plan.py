"""`herdling plan MODEL`: what fits a cluster, how long a step takes, what it costs, and the command that starts it. Starts without torch.

Searches all splits of the GPUs (`herdling.plan.layout`); with `--for serve` it plans serving. What fits nowhere gets an answer: how much
is missing, and the least cluster.
"""

from __future__ import annotations

import json
from enum import StrEnum
from math import log2
from pathlib import Path
from typing import Annotated, Any

import typer

from herdling.base.errors import SettingsError
from herdling.base.units import parse_count
from herdling.cli.budget import plan_budget
from herdling.cli.calibrate import calibrate_machine
from herdling.cli.plan_serving import plan_serving
from herdling.cli.plan_table import describe, nowhere, print_splits
from herdling.cli.reliability import forecast_run, print_answer
from herdling.model.config import LlamaConfig
from herdling.plan.goodput_forecast import Run
from herdling.plan.hardware import Gpu, find_gpu
from herdling.plan.layout import search, torchrun_lines
from herdling.plan.split import Job, Stack


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
    gpu: Annotated[str | None, typer.Option("--gpu", help="Their kind: h100, a100-80gb, ... [h100]")] = None,
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
    budget: Annotated[str | None, typer.Option("--budget", help="What 10m, 1e15 FLOPs or $5 buy best: here, or on --gpu and --gpus; as a recipe.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE.toml", help="For --budget: write the recipe here.")] = None,
    law: Annotated[str, typer.Option("--law", help="For --budget: chinchilla, llama3, or a fit.json of your own.")] = "chinchilla",
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this machine, so that forecasts are its own.")] = False,
    log: Annotated[Path | None, typer.Option("--log", metavar="RUN", help="Calibrate by a finished run in place of measuring.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write it for a program.")] = False,
) -> None:
    """Plan a run: what fits, how long, how much, and how to start it."""
    if calibrate or log or budget is not None:
        _of_machine(budget, _cluster(gpu, gpus, memory, link, nic, price), gpus, price, recipe, law, log, as_json=as_json)
        return
    _check_reliability(model, tokens, purpose, reliability=reliability, has_settings=bool(set_ or picture))
    if model is None:
        _give_reliability(*forecast_run(gpus, tokens, None, set_ or [], picture), as_json=as_json)
        return
    shape, gpus = read_model(model), 8 if gpus is None else gpus
    kind = find_gpu(gpu or "h100", memory_gib=memory, link_gb_per_s=link, nic_gb_per_s=nic, dollars_per_hour=price)
    length = parse_count(seq_len, where="--seq-len") if seq_len else min(shape.max_position_embeddings, 8192)
    if gpus < 1:
        raise SettingsError(f"--gpus is {gpus}; accepted: 1 or more")
    if purpose is Purpose.serve:
        plan_serving(shape, model, gpus, kind, length, sequences=16 if batch == "auto" else parse_count(batch, where="--batch"), as_json=as_json)
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
        raise SettingsError(nowhere(job, model, gpus, kind, stack, found))
    whole = parse_count(tokens, where="--tokens") if tokens else None
    described = [describe(one, job, gpus, kind, whole) for one in found.candidates[:top]]
    command = torchrun_lines(gpus, kind)
    fails = forecast_run(gpus, tokens, described[0]["tokens_per_s_per_gpu"] * gpus, set_ or [], picture) if reliability else None
    if as_json:
        answer = {"model": model, "gpus": gpus, "gpu": kind.name, "splits": described, "refused": found.refused, "command": command}
        print(json.dumps(answer | ({"reliability": fails[1]} if fails else {}), indent=2))
        return
    print_splits(job, model, gpus, kind, found, described, command)
    if fails:
        _give_reliability(*fails, as_json=False)


def _cluster(gpu: str | None, gpus: int | None, memory: float | None, link: float | None, nic: float | None, price: float | None) -> Gpu | None:
    """Return the GPU that a budget is for, or None where the command line names none: then it is for this machine."""
    if gpu is None and gpus is None:
        return None
    return find_gpu(gpu or "h100", memory_gib=memory, link_gb_per_s=link, nic_gb_per_s=nic, dollars_per_hour=price)


def _of_machine(
    budget: str | None, gpu: Gpu | None, gpus: int | None, price: float | None, recipe: Path | None, law: str, log: Path | None, *, as_json: bool
) -> None:
    """Measure this machine, or say what a budget buys."""
    if budget is None:
        calibrate_machine(log, as_json=as_json)
        return
    plan_budget(budget, law=law, gpu=gpu, num_gpus=1 if gpus is None else gpus, dollars_per_hour=price, recipe=recipe, as_json=as_json)


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
