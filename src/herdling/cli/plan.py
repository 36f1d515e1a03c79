"""`herdling plan MODEL`: what fits a cluster, how long a step takes, what it costs, and the command that starts it. Starts without torch.

Searches all splits of the GPUs (`herdling.plan.layout`); with `--for serve` it plans serving. What fits nowhere gets an answer: how much
is missing, and the least cluster.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from herdling.base.errors import SettingsError
from herdling.base.units import parse_count
from herdling.cli.budget import plan_budget
from herdling.cli.calibrate import calibrate_machine
from herdling.cli.plan_model import even_rows, read_length, read_model
from herdling.cli.plan_serving import plan_serving
from herdling.cli.plan_table import print_plan
from herdling.cli.plan_training import plan_training, write_picture
from herdling.cli.reliability import forecast_run, print_answer
from herdling.plan.goodput_forecast import Run
from herdling.plan.hardware import Gpu, find_gpu
from herdling.plan.split import Job
from herdling.plan.stacks import find_stack


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
    stack: Annotated[str, typer.Option("--stack", help="Training software: herdling, megatron, torchtitan, llm-foundry or llama3.")] = "herdling",
    memory: Annotated[float | None, typer.Option("--gpu-memory", help="GiB of a GPU, in place of what its kind has.")] = None,
    link: Annotated[float | None, typer.Option("--nvlink", help="GB/s a GPU inside a server, one way.")] = None,
    nic: Annotated[float | None, typer.Option("--nic", help="GB/s a GPU between servers, one way.")] = None,
    price: Annotated[float | None, typer.Option("--price", help="Dollars for a GPU and hour.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Splits to show.")] = 5,
    reliability: Annotated[bool, typer.Option("--reliability", help="Count failures too: useful time, days. Without MODEL: Llama 3 405B's run.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="For --reliability: saving.pause_seconds=5, ...")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", metavar="FILE.svg", help="Draw memory and one step; with --reliability useful time.")] = None,
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
    _check_together(model, tokens, purpose, reliability=reliability, has_settings=bool(set_), has_picture=picture is not None)
    if model is None:
        _give_reliability(*forecast_run(gpus, tokens, None, set_ or [], picture), as_json=as_json)
        return
    shape, num_gpus = read_model(model), 8 if gpus is None else gpus
    if num_gpus < 1:
        raise SettingsError(f"--gpus is {num_gpus}; accepted: 1 or more")
    kind = find_gpu(gpu or "h100", memory_gib=memory, link_gb_per_s=link, nic_gb_per_s=nic, dollars_per_hour=price)
    length = read_length(seq_len, shape)
    if purpose is Purpose.serve:
        plan_serving(shape, model, num_gpus, kind, length, sequences=16 if batch == "auto" else parse_count(batch, where="--batch"), as_json=as_json)
        return
    trained, frozen = MODELS[purpose]
    job = Job(
        model=shape,
        seq_len=length,
        global_batch=num_gpus if batch == "auto" else even_rows(parse_count(batch, where="--batch") / length),
        attended=document,
        precision=precision.value,
        trained_models=trained,
        frozen_models=frozen,
    )
    whole = parse_count(tokens, where="--tokens") if tokens else None
    planned = plan_training(job, model, num_gpus, kind, find_stack(stack), purpose=purpose.value, top=top, tokens=whole)
    if picture and not reliability:
        write_picture(planned, picture)
    speed = planned.described[0]["tokens_per_s_per_gpu"] * num_gpus
    fails = forecast_run(num_gpus, tokens, speed, set_ or [], picture) if reliability else None
    if as_json:
        print(json.dumps(planned.as_dict() | ({"reliability": fails[1]} if fails else {}), indent=2))
        return
    print_plan(planned)
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


def _check_together(model: str | None, tokens: str | None, purpose: Purpose, *, reliability: bool, has_settings: bool, has_picture: bool) -> None:
    """Refuse options that do not go together."""
    if has_settings and not reliability:
        raise SettingsError("--set: its settings belong to --reliability. Add it, or leave them out")
    if has_picture and purpose is Purpose.serve:
        raise SettingsError("--picture draws training: memory and one step, or with --reliability useful time. Leave it out, or leave out --for serve")
    if model is None and not reliability:
        raise SettingsError("plan: no MODEL given; accepted: a size of the papers such as llama3.1-8b, a model folder or a config.json")
    if reliability and (purpose is Purpose.serve or (model is not None and tokens is None)):
        raise SettingsError("--reliability: how long training takes depends on its tokens. Add --tokens, such as 15.6T, and leave out --for serve")


def _give_reliability(run: Run, answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"reliability": answer}, indent=2))
    else:
        print_answer(run, answer)
