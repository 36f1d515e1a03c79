"""`herdling plan MODEL`: what fits a cluster, how long a step takes, what it costs, and the command that starts it. Starts without torch.

Searches all splits of the GPUs (`herdling.plan.layout`); with `--for serve` it plans serving. What fits nowhere gets an answer: how much
is missing, and the least cluster.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from herdling.base.errors import SettingsError

if TYPE_CHECKING:
    from herdling.plan.efficiency import Efficiency
    from herdling.plan.hardware import Gpu

# Each way imports what it needs below: imports are half of this command's time.


CHINCHILLA = "chinchilla"


class Purpose(StrEnum):
    """What the GPUs are to do."""

    train = "train"
    sft = "sft"
    dpo = "dpo"
    ppo = "ppo"
    serve = "serve"


class Format(StrEnum):
    """Format of matrix products."""

    bf16 = "bf16"
    fp8 = "fp8"
    fp4 = "fp4"


def plan(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="A size of the papers such as llama3.1-8b, or a config.json.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", metavar="N", help="GPUs of the cluster [8].")] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="KIND", help="h100, a100-80gb, ..., here as measured [h100].")] = None,
    purpose: Annotated[Purpose, typer.Option("--for", metavar="WHAT", help="train, sft, dpo, ppo or serve.", show_default=False)] = Purpose.train,
    seq_len: Annotated[str | None, typer.Option("--seq-len", metavar="TOKENS", help="Of a row [the model's, at most 8K].")] = None,
    batch: Annotated[str, typer.Option("--batch", metavar="TOKENS", help="Of a step; sequences, when serving.", show_default=False)] = "auto",
    tokens: Annotated[str | None, typer.Option("--tokens", metavar="TOKENS", help="Of the run: for its time and price.")] = None,
    document: Annotated[float | None, typer.Option("--document", metavar="TOKENS", help="Mean document, where masks part them.")] = None,
    precision: Annotated[Format, typer.Option("--precision", metavar="FORMAT", help="Of products: bf16, fp8 or fp4.", show_default=False)] = Format.bf16,
    stack: Annotated[str, typer.Option("--stack", metavar="SOFTWARE", help="herdling, megatron, torchtitan, llama3, ...", show_default=False)] = "herdling",
    memory: Annotated[float | None, typer.Option("--gpu-memory", metavar="GIB", help="Of a GPU, in place of its kind's.")] = None,
    link: Annotated[float | None, typer.Option("--nvlink", metavar="GB/S", help="A GPU inside a server, one way.")] = None,
    nic: Annotated[float | None, typer.Option("--nic", metavar="GB/S", help="A GPU between servers, one way.")] = None,
    price: Annotated[float | None, typer.Option("--price", metavar="DOLLARS", help="For a GPU and hour.")] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Splits to show [5].", show_default=False)] = 5,
    reliability: Annotated[bool, typer.Option("--reliability", help="Count failures. No MODEL: Llama 3 405B.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of --reliability: saving.pause_seconds=5.")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", metavar="FILE.svg", help="Draw memory and a step, or useful time.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="AMOUNT", help="What 10m, 1e15 FLOPs or $5 buy best.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE.toml", help="Write what --budget says as a recipe.")] = None,
    law: Annotated[str, typer.Option("--law", metavar="LAW", help="Of --budget: chinchilla, llama3, fit.json.", show_default=False)] = CHINCHILLA,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this machine for its forecasts.")] = False,
    log: Annotated[Path | None, typer.Option("--log", metavar="RUN", help="Calibrate by a finished run instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write it for a program.")] = False,
) -> None:
    """Plan a run: what fits, how long, how much, and how to start it."""
    if calibrate or log or budget is not None:
        _of_machine(budget, Cluster(gpu, gpus, memory, link, nic, price), recipe, law, log, as_json=as_json)
        return
    _check_together(model, tokens, purpose, reliability=reliability, has_settings=bool(set_), has_picture=picture is not None)
    if recipe is not None or law != CHINCHILLA:
        raise SettingsError("--recipe and --law belong to --budget. Add it, or leave them out")
    if model is None:
        from herdling.cli.reliability import forecast_run, give_answer

        give_answer(*forecast_run(gpus, tokens, None, set_ or [], picture), as_json=as_json)
        return
    from herdling.cli.plan_cluster import Question, plan_cluster, read_model

    question = Question(
        name=model,
        model=read_model(model),
        num_gpus=8 if gpus is None else gpus,
        gpu=Cluster(gpu, gpus, memory, link, nic, price).kind(),
        efficiency=Cluster(gpu, gpus, memory, link, nic, price).efficiency(),
        purpose=purpose.value,
        seq_len=seq_len,
        batch=batch,
        tokens=tokens,
        document=document,
        precision=precision.value,
        stack=stack,
        top=top,
        overrides=tuple(set_ or ()) if reliability else None,
        picture=picture,
    )
    plan_cluster(question, as_json=as_json)


class Cluster(NamedTuple):
    """The GPUs as the command line names them."""

    gpu: str | None
    num_gpus: int | None
    memory_gib: float | None
    link_gb_per_s: float | None
    nic_gb_per_s: float | None
    dollars_per_hour: float | None

    def kind(self) -> Gpu:
        """Return their kind, an H100 where none is named, with what is given in place of its own values."""
        from herdling.plan.hardware import find_gpu

        own = {"memory_gib": self.memory_gib, "link_gb_per_s": self.link_gb_per_s, "nic_gb_per_s": self.nic_gb_per_s}
        own |= {"dollars_per_hour": self.dollars_per_hour}
        if self.gpu == "here":
            from herdling.plan.machine import measured_here

            return replace(measured_here()[0], **{name: value for name, value in own.items() if value is not None})  # type: ignore[arg-type]
        return find_gpu(self.gpu or "h100", **own)

    def efficiency(self) -> Efficiency | None:
        """Return what was fitted to this machine's own steps, where the GPUs are those here."""
        if self.gpu != "here":
            return None
        from herdling.plan.machine import measured_here

        return measured_here()[1]


def _of_machine(budget: str | None, cluster: Cluster, recipe: Path | None, law: str, log: Path | None, *, as_json: bool) -> None:
    """Measure this machine, or say what a budget buys: here, or on a cluster where one is named."""
    if budget is None:
        from herdling.cli.calibrate import calibrate_machine

        calibrate_machine(log, as_json=as_json)
        return
    from herdling.cli.budget import plan_budget

    kind = None if cluster.gpu is None and cluster.num_gpus is None else cluster.kind()
    num_gpus = 1 if cluster.num_gpus is None else cluster.num_gpus
    plan_budget(
        budget,
        law=law,
        gpu=kind,
        efficiency=cluster.efficiency(),
        num_gpus=num_gpus,
        dollars_per_hour=cluster.dollars_per_hour,
        recipe=recipe,
        as_json=as_json,
    )


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
