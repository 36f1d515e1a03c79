"""`herdling plan --budget 10m`: the size, tokens, batch and learning rate that time, FLOPs or money buy best, on this machine or on rented GPUs, as a recipe.

Starts without torch; it is imported only where nothing is known yet of this machine's speed, which is then measured for some seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import exp, log, log2
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from herdling.base.artifact import write_text_atomic
from herdling.base.errors import SettingsError
from herdling.base.units import format_count, format_seconds
from herdling.cli.budget_recipe import large_recipe, small_recipe
from herdling.cli.calibrate import machine_name, this_machine, to_stderr
from herdling.model.config import LlamaConfig
from herdling.model.dial import batch_tokens, dial_configs
from herdling.model.presets import PRESETS
from herdling.plan.budget import MAX_EPOCHS, Budget, Choice, Offer, choose, compute_optimal_size, parse_budget, seconds_of
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.laws import NamedLaw, find_law
from herdling.plan.layout import Candidate, search, torchrun_lines
from herdling.plan.machine import LAW_WORK, Machine
from herdling.plan.rungs import SEQUENCE_LENGTH, VOCABULARY, other_seconds
from herdling.plan.split import Job, Stack
from herdling.plan.step_time import StepShape
from herdling.train.schedule import parse_ramp
from herdling.train.size import PAPER_RUNS

TEXT_TOKENS, MORE_TOKENS = 2_995_000, 35_000_000
"""Of the starter's text for training, and of the packages that herdling needs, by a tokenizer of 4,096 ids on CPython 3.11; others differ a little."""
TEXT_MARGIN = 0.97
LARGEST_HERE = 200e6
"""Parameters of the largest size that this machine is asked for; what a budget buys beyond it is a matter for GPUs."""
LARGE_VOCABULARY = 32_000
NEAR = 6.0
"""Sizes that are weighed on a cluster: within this factor of what the law alone says."""
USUAL_SHARE = 0.5
"""Of the ceiling, to find which sizes come into question at all."""
PAPER_SIZES = ("llama3.2-1b", "llama3.2-3b", "llama3-8b", "llama2-13b", "llama1-33b", "llama3-70b", "llama3.1-405b")
MAX_ROWS = 4096
NUM_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: a budget, and what it is to be spent on. `gpu` None is this machine."""

    budget: Budget
    law: NamedLaw
    gpu: Gpu | None = None
    efficiency: Efficiency | None = None
    """A measured machine's own scalars, in place of the shipped ones."""
    num_gpus: int = 1
    dollars_per_hour: float | None = None


def plan_budget(
    text: str,
    *,
    law: str,
    gpu: Gpu | None,
    efficiency: Efficiency | None,
    num_gpus: int,
    dollars_per_hour: float | None,
    recipe: Path | None,
    as_json: bool,
) -> None:
    """Answer what a budget buys; write the recipe where one is asked for, else print it."""
    if num_gpus < 1:
        raise SettingsError(f"--gpus is {num_gpus}; accepted: 1 or more")
    if recipe is not None and recipe.exists():
        raise SettingsError(f"--recipe {recipe}: is there already, and is not overwritten. Name another file")
    named = find_law(law)
    price = gpu.dollars_per_hour if gpu else dollars_per_hour
    question = Question(budget=parse_budget(text), law=named, gpu=gpu, efficiency=efficiency, num_gpus=num_gpus, dollars_per_hour=price)
    answer = _on_cluster(question, gpu) if gpu else _on_this_machine(question)
    if recipe is not None:
        write_text_atomic(recipe, answer["recipe"])
    if as_json:
        print(json.dumps(answer | {"recipe_file": str(recipe) if recipe else None}, indent=2))
        return
    _print(answer, recipe)


def _on_this_machine(question: Question) -> dict[str, Any]:
    """Return the answer for this machine: the whole recipe of the assistant has to fit, or for FLOPs its pre-training."""
    machine = this_machine(say=to_stderr)
    budget = seconds_of(question.budget, question.dollars_per_hour)
    offers = offers_here(machine)
    # The standard library's text alone, or the installed packages' too: whichever is expected to end lower; the first where it makes no difference.
    weighed = {text: choose(offers, budget, question.law.law, max_tokens=MAX_EPOCHS * TEXT_MARGIN * text) for text in (TEXT_TOKENS, TEXT_TOKENS + MORE_TOKENS)}
    text, choices = min(weighed.items(), key=lambda pair: pair[1][0].loss)
    best = choices[0]
    factor, spread = machine.correction(LAW_WORK)
    stages = {"pretrain": best.seconds, **other_seconds(machine.law, best.offer.config, recipe="assistant", factor=factor)}
    said = [f"{question.budget} on this machine ({machine_name(machine)}; {machine.source})", *_why(question, best)]
    packages = ", the installed packages' too, for the standard library's alone is too little" if text > TEXT_TOKENS else ""
    said.append(f"the text of the starter is read {best.tokens / text:.1f} times{packages}")
    if best.limited:
        spare = budget.amount - sum(stages.values()) if budget.kind == "time" else 0.0
        left = f"; {format_seconds(spare)} of the budget stay" if spare > 0 else ""
        said.append(f"the text runs out: {format_count(MAX_EPOCHS * text)} tokens are {MAX_EPOCHS:g} times all of it{left}. With more a larger budget counts")
    if best.offer is max(offers, key=lambda offer: offer.parameters):
        said.append(f"larger sizes than {best.offer.name} were not weighed here; for rented GPUs add --gpu h100 --gpus 8")
    return _answer(question, choices, stages, spread, said) | {
        "recipe": small_recipe(best, "\n".join(said), packages=bool(packages)),
        "machine": machine_name(machine),
    }


def offers_here(machine: Machine) -> list[Offer]:
    """Return the sizes of the dial with what they cost on this machine, as the assistant's recipe would train them."""
    factor = machine.correction(LAW_WORK)[0]
    offers = []
    for config in dial_configs(vocab_size=VOCABULARY, sequence_length=SEQUENCE_LENGTH):
        step = StepShape(model=config, tokens=2048, sequence_length=SEQUENCE_LENGTH)
        offers.append(
            Offer(
                name=_name(config),
                config=config,
                seconds_per_token=factor * machine.law.seconds(step) / step.tokens,
                other_seconds=sum(other_seconds(machine.law, config, recipe="assistant", factor=factor).values()),
                sequence_length=SEQUENCE_LENGTH,
            )
        )
    return [offer for offer in offers if offer.parameters <= LARGEST_HERE]


def _on_cluster(question: Question, gpu: Gpu) -> dict[str, Any]:
    """Return the answer for rented GPUs: pre-training alone, split as the planner finds it fastest."""
    budget = seconds_of(question.budget, gpu.dollars_per_hour, question.num_gpus)
    flops = budget.amount if budget.kind == "flops" else budget.amount * question.num_gpus * gpu.matmul_tflops * 1e12 * USUAL_SHARE
    offers = offers_on(gpu, question.num_gpus, compute_optimal_size(flops, question.law.law), question.efficiency)
    if not offers:
        raise SettingsError(f"--budget {question.budget} on {question.num_gpus:,} x {gpu.name}: no size that it would train fits. Change --gpu or --gpus")
    choices = choose([offer for offer, _ in offers], budget, question.law.law)
    best = choices[0]
    split = next(line for offer, line in offers if offer is best.offer)
    hours = best.seconds / 3600 * question.num_gpus
    said = [f"{question.budget} on {question.num_gpus:,} x {gpu.name}", *_why(question, best)]
    said += [f"{format_count(hours)} GPU hours, ${format_count(hours * gpu.dollars_per_hour)} at ${gpu.dollars_per_hour:g} each"]
    advice = f"fastest split of {question.num_gpus:,} x {gpu.name}: {split} (herdling's own trainer takes one GPU so far)"
    commands = torchrun_lines(question.num_gpus, gpu)
    answer = _answer(question, choices, {"pretrain": best.seconds}, (question.efficiency or Efficiency()).spread, [*said, advice])
    return answer | {"recipe": large_recipe(best, "\n".join(said), f"{advice}\n{commands}"), "machine": f"{question.num_gpus} x {gpu.name}"}


def offers_on(gpu: Gpu, num_gpus: int, about: float, efficiency: Efficiency | None = None) -> list[tuple[Offer, str]]:
    """Return the sizes near this many parameters that fit the cluster, with what they cost there and their fastest split in words."""
    sizes = [(_name(config), config, 2048) for config in dial_configs(vocab_size=LARGE_VOCABULARY, sequence_length=2048)]
    sizes += [(name, PRESETS[name], min(PRESETS[name].max_position_embeddings, 8192)) for name in PAPER_SIZES]
    near = [size for size in sizes if abs(log(size[1].num_parameters() / about)) < log(NEAR)]
    found = []
    for name, config, length in near or [min(sizes, key=lambda size: abs(log(size[1].num_parameters() / about)))]:
        rows = _rows(name, config, length)
        candidates: tuple[Candidate, ...] = ()
        while not candidates and rows <= max(num_gpus, MAX_ROWS):
            job = Job(model=config, seq_len=length, global_batch=rows)
            candidates = search(job, num_gpus, gpu, Stack(loss="chunked"), efficiency).candidates
            rows *= 2
        if candidates:
            split, step = candidates[0].split, candidates[0].forecast
            words = f"TP {split.tp} x CP {split.cp} x PP {split.pp} x DP {split.dp}, micro-batch {split.micro_batch}, recompute {split.recompute}"
            offer = Offer(name=name, config=config, seconds_per_token=step.seconds / job.tokens, sequence_length=length, fixed_batch=job.tokens)
            found.append((offer, words))
    return found


def _rows(name: str, config: LlamaConfig, length: int) -> int:
    """Return the rows of a step: of a size of the papers the largest that its paper trained with, of a small one the dial's; a power of two."""
    tokens = parse_ramp(PAPER_RUNS[name][1], length, name)[-1][1] if name in PAPER_RUNS else batch_tokens(config.num_parameters(), length)
    return int(2 ** max(0, round(log2(tokens / length))))


def _name(config: LlamaConfig) -> str:
    """Return the number of parameters as a recipe names a size: two digits, which the dial takes for this very shape."""
    return format_count(float(f"{config.num_parameters():.2g}"))


def _why(question: Question, best: Choice) -> list[str]:
    """Return what was chosen, and by what."""
    config = best.offer.config
    alone = compute_optimal_size(best.flops, question.law.law)
    lines = [
        f"{best.offer.name}: {config.num_parameters():,} parameters (width {config.hidden_size}, {config.num_hidden_layers} layers) on {best.tokens:,} tokens,"
        f" {best.tokens_per_parameter:.2g} a parameter, {best.flops:.2g} FLOPs (6ND)",
        f"batch {best.batch:,} tokens in rows of {best.offer.sequence_length:,}, peak learning rate {best.lr:g}",
        f"expected loss {best.loss:.3f} by the law {question.law.name} ({question.law.origin}), the least of the sizes that were weighed;"
        f" by compute alone it would take {format_count(alone)} parameters",
    ]
    doubt = question.law.doubt(best.offer.parameters)
    return [*lines, doubt] if doubt else lines


def _answer(question: Question, choices: list[Choice], stages: dict[str, float], spread: float, said: list[str]) -> dict[str, Any]:
    """Return all of it as plain data."""
    best = choices[0]
    rows = sorted(choices[:NUM_SHOWN], key=lambda choice: choice.offer.parameters)
    keys = ("parameters", "tokens", "tokens_per_parameter", "loss", "flops", "pretrain_seconds")
    weighed = [
        {"size": one.offer.name} | dict(zip(keys, (one.offer.parameters, one.tokens, one.tokens_per_parameter, one.loss, one.flops, one.seconds), strict=True))
        for one in rows
    ]
    return {
        "budget": {"kind": question.budget.kind, "amount": question.budget.amount},
        "size": best.offer.name,
        "parameters": best.offer.parameters,
        "num_tokens": best.tokens,
        "tokens_per_parameter": best.tokens_per_parameter,
        "flops": best.flops,
        "flops_per_second": best.flops / best.seconds,
        "batch_tokens": best.batch,
        "sequence_length": best.offer.sequence_length,
        "lr": best.lr,
        "loss": best.loss,
        "law": question.law.name,
        "limited_by_text": best.limited,
        "seconds": {name: seconds for name, seconds in stages.items() if seconds} | {"all": sum(stages.values())},
        "interval": [sum(stages.values()) * exp(-spread), sum(stages.values()) * exp(spread)],
        "weighed": weighed,
        "said": said,
    }


def _print(answer: dict[str, Any], recipe: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in answer["said"]:
        console.print(line, markup=False)
    seconds = dict(answer["seconds"])
    whole = seconds.pop("all")
    low, high = answer["interval"]
    parts = ", ".join(f"{name} {format_seconds(value)}" for name, value in seconds.items())
    console.print(
        f"time: {format_seconds(whole)} ({format_seconds(low)} to {format_seconds(high)}): {parts}; {format_count(answer['flops_per_second'])} useful FLOP/s"
    )
    table = Table(box=None, padding=(0, 1))
    for name in ("size", "tokens", "a parameter", "expected loss", "pre-training"):
        table.add_column(name, justify="right")
    for one in answer["weighed"]:
        mark = "->" if one["size"] == answer["size"] else ""
        numbers = (format_count(one["tokens"]), f"{one['tokens_per_parameter']:.2g}", f"{one['loss']:.3f}", format_seconds(one["pretrain_seconds"]))
        table.add_row(f"{mark} {one['size']}", *numbers)
    console.print(table)
    if recipe is None:
        console.print("the recipe (--recipe FILE.toml writes it):\n", markup=False)
        console.print(answer["recipe"], markup=False)
    else:
        console.print(f"recipe: {recipe}. Run it with: herdling run {recipe}", markup=False)
