"""`herdling quickstart`: raise a small Llama from the text of the user's own Python, offline, in minutes; the faster the machine, the larger the model.

How large is chosen once, by what was measured of the machine (`plan/rungs.py`), and written into the run's folder as `dial.json`: the same command goes on with
the same model, whatever the machine does later. A `--set` that touches the size, and runs from before there was a dial, keep the recipe as it is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from herdling.base.artifact import is_artifact, write_json_atomic
from herdling.base.errors import DataError, SettingsError
from herdling.base.units import format_seconds
from herdling.cli.calibrate import Say, machine_name, this_machine, to_stderr
from herdling.cli.run import run_recipe
from herdling.plan.budget import parse_budget
from herdling.plan.machine import LAW_WORK, Machine
from herdling.plan.rungs import RUNGS, WHOLE_SECONDS, Rung, choose_rung, larger_minutes, rung_for
from herdling.recipe import load_recipe

DIAL = "dial.json"
STAGE = "pretrain"
ITS_SETTINGS = ("size", "model", "num_tokens", "batch", "sequence_length", "optimizer", "scaling_law", "flops")
"""Settings of the stage that the dial turns, or that say the same in another way."""


def quickstart(
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: stages.sft.epochs=3.")] = None,
    force: Annotated[list[str] | None, typer.Option("--force", metavar="STAGE", help="Make this stage again, and what follows from it.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="How long all of it may take, such as 30m. Default: about ten minutes.")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs.")] = Path("runs"),
) -> None:
    """Raise a small Llama from your own Python's text, offline, in minutes."""
    with as_file(files("herdling") / "recipes" / "quickstart.toml") as path:
        folder = runs / load_recipe(path, set_ or ()).name
        overrides = turned(folder, set_ or (), force or (), budget, say=to_stderr)
        recipe = load_recipe(path, [*overrides, *(set_ or ())])
    run_recipe(recipe, runs, again=force or ())


def turned(folder: Path, set_: Sequence[str], force: Sequence[str], budget: str | None, *, say: Say, machine: Machine | None = None) -> list[str]:
    """Return the settings that this machine's speed gives pre-training, as lines of `--set`: chosen now, or when the run in this folder began.

    Raises:
        SettingsError: a budget that is no time or too short, beside settings that say the size, or other than what the run began with.
    """
    said = [line for line in set_ if any(line.partition("=")[0].strip().startswith(f"stages.{STAGE}.{name}") for name in ITS_SETTINGS)]
    if said:
        if budget:
            raise SettingsError(f"--budget: {said[0]} says how large the model is to be. Leave one of the two out")
        return []
    held, began = _held(folder), is_artifact(folder / STAGE) or (folder / f".{STAGE}.partial").is_dir()
    if began and STAGE not in force:
        if budget and held is not None and budget != held[1]:
            raise SettingsError(
                f"{folder}: began with {f'--budget {held[1]}' if held[1] else 'no --budget'}, now --budget {budget}. Go on without --budget,"
                f" or begin pre-training anew: herdling quickstart --budget {budget} --force {STAGE}",
                next_command=f"herdling quickstart --budget {budget} --force {STAGE}",
            )
        return [] if held is None else _overrides(held[0])
    if held is not None and (budget is None or budget == held[1]) and STAGE not in force:
        return _overrides(held[0])
    return _overrides(_choose(folder, budget, machine or this_machine(say=say), say))


def _choose(folder: Path, budget: str | None, machine: Machine, say: Say) -> Rung:
    """Choose by the forecast of the whole, write it down and say it."""
    factor = machine.correction(LAW_WORK)[0]
    if budget is None:
        rung, seconds = choose_rung(machine.law, WHOLE_SECONDS, factor=factor)
    else:
        wanted = parse_budget(budget)
        if wanted.kind != "time":
            raise SettingsError(f"--budget: found {budget!r}; accepted here: a time such as 30m. What FLOPs and money buy: herdling plan --budget {budget!r}")
        rung, seconds = rung_for(machine.law, wanted.amount, factor=factor)
    minutes = larger_minutes(machine.law, rung, factor=factor)
    say(
        f"this machine ({machine_name(machine)}; {machine.source}): a model of {rung.size} parameters on {rung.num_tokens} tokens,"
        f" all of it in about {format_seconds(seconds)}" + (f"; --budget {minutes}m raises a larger one" if minutes and not budget else "")
    )
    settings = {"size": rung.size, "num_tokens": rung.num_tokens, "batch": rung.batch, "lr": rung.lr}
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(folder / DIAL, {**settings, "budget": budget, "forecast_seconds": round(seconds, 1), "machine": machine_name(machine)})
    return rung


def _held(folder: Path) -> tuple[Rung, str | None] | None:
    """Return what was chosen when the run began, with its budget, or None where nothing was."""
    path = folder / DIAL
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Rung(size=raw["size"], num_tokens=raw["num_tokens"], batch=raw["batch"], lr=float(raw["lr"])), raw["budget"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error!r}). Remove it to choose the size anew, or set it: --set stages.{STAGE}.size=...") from None


def _overrides(rung: Rung) -> list[str]:
    """Return the lines of `--set` for a rung; none for the first, which is the recipe as it is written."""
    return [] if rung == RUNGS[0] else rung.overrides
