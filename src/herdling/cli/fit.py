"""`herdling fit isoflop|parametric|ladder FILE.csv`: what measured runs say of larger ones, with intervals and the score on what was left out.

Reads tables only, prints a table or JSON; starts without torch, answers in about a second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

from herdling.base.errors import SettingsError
from herdling.base.units import format_count

app = typer.Typer(help="Forecast larger runs from measured ones: isoFLOP sweeps, parametric laws, task ladders.", no_args_is_help=True)
Form = Literal["shared", "per_task", "llama3"]
DEFAULT_FLOPS = 3.8e25
"""Llama 3 405B's."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .csv or .csv.gz with a line for each run.")]
At = Annotated[list[str] | None, typer.Option("--at", help="Compute in FLOPs to forecast for, such as 3.8e25; may be given more than once.")]
Outliers = Annotated[str, typer.Option("--outliers", help="keep, highest:K (leave out the K highest losses) or residual:Z (beyond Z robust deviations).")]
Bootstraps = Annotated[int, typer.Option("--bootstraps", min=20, help="Resamples for the intervals.")]
Served = Annotated[float, typer.Option("--served", min=0, help="Tokens that the model will serve: also plan for the least cost of training and serving.")]
Json = Annotated[bool, typer.Option("--json", help="Write it for a program.")]


@app.command("isoflop")
def isoflop(file: File, at: At = None, outliers: Outliers = "keep", bootstraps: Bootstraps = 300, served: Served = 0.0, as_json: Json = False) -> None:
    """Fit a sweep of several sizes at each of a few budgets: columns compute_budget, training_tokens, validation_loss, perhaps parameters."""
    _fit_sweep(file, at, as_json=as_json, outliers=outliers, num_bootstraps=bootstraps, served_tokens=served)


@app.command("parametric")
def parametric(
    file: File,
    at: At = None,
    outliers: Outliers = "keep",
    bootstraps: Bootstraps = 300,
    served: Served = 0.0,
    trajectories: Annotated[bool, typer.Option("--trajectories", help="Rows are points along training curves: fit their envelope too.")] = False,
    as_json: Json = False,
) -> None:
    """Fit L(N, D) = E + A/N^alpha + B/D^beta to runs of any sizes: two of compute, parameters and tokens, and a loss."""
    settings = {"outliers": outliers, "num_bootstraps": bootstraps, "served_tokens": served}
    _fit_sweep(file, at, as_json=as_json, isoflop=False, trajectories=trajectories, **settings)


@app.command("ladder")
def ladder(
    file: File,
    curves: Annotated[Path | None, typer.Option("--curves", help="A second file with the training curves of these runs, for the second stage.")] = None,
    largest: Annotated[float | None, typer.Option("--largest", help="Fit runs up to this many parameters; else those up to the largest of role fit.")] = None,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="A task to forecast; may be given more than once. All, if none is given.")] = None,
    form: Annotated[str, typer.Option("--form", help="shared, per_task or llama3: the law of bits per byte.")] = "shared",
    as_json: Json = False,
) -> None:
    """Forecast tasks: columns run, N, D, task, bpb, acc. Larger runs in the file are forecast and scored."""
    from herdling.plan.ladder import chosen_tasks, read_ladder, split_ladder, with_curves
    from herdling.plan.ladder_forecast import forecast_ladder

    if form not in get_args(Form):
        raise SettingsError(f"--form {form}: expected {', '.join(get_args(Form))}")
    runs = chosen_tasks(read_ladder(file), tasks)
    if curves is not None:
        runs = with_curves(runs, read_ladder(curves))
    fitted, larger = split_ladder(runs, largest)
    found = forecast_ladder(fitted, larger, form=cast(Form, form))
    if as_json:
        print(json.dumps(found))
    else:
        _print_ladder(found)


def _fit_sweep(file: Path, at: list[str] | None, *, as_json: bool, **settings: Any) -> None:
    from herdling.plan.measurements import read_losses
    from herdling.plan.sweep import forecast_sweep

    found = forecast_sweep(read_losses(file), [_flops(text) for text in at] if at else [DEFAULT_FLOPS], **settings)
    if as_json:
        print(json.dumps(found))
    else:
        _print_sweep(found)


def _flops(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"--at {text}: expected FLOPs above 0, such as 3.8e25")
    return value


def _print_sweep(found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for name, exponent in (("isoflop", "alpha"), ("envelope", "alpha"), ("parametric", "parameter_exponent")):
        if found[name]:
            console.print(_optima(name, exponent, found[name]))
    if found["parametric"]:
        _print_law(console, found)
    else:
        console.print(f"no parametric law: {found['not_fitted']}")
    for budget, gap in found["disagreement"].items():
        console.print(
            f"disagreement at {budget}: the parabolas ask for {gap['tokens_ratio']:.2f} times the tokens of the parametric law; "
            f"if that is right, they waste {gap['wasted_compute']:.1%} of the compute"
        )
    for budget, plan in found["serving"].items():
        console.print(
            f"with {format_count(plan['served_tokens'])} tokens served, the loss of {budget} is cheapest with {format_count(plan['parameters'])} parameters on "
            f"{format_count(plan['tokens'])} tokens: {plan['saved_compute']:.1%} of training and serving saved"
        )
    held = found["held_out"]
    console.print(
        f"the largest budget left out: {held['num_rows']} losses predicted with a mean error of {held['mean_relative_error']:.2%}"
        if "num_rows" in held
        else f"not scored on a left-out budget: {held['not_scored']}"
    )


def _print_law(console: Console, found: dict[str, Any]) -> None:
    law, dropped = found["parametric"], found["outliers"]["dropped_lines"]
    terms = f"{law['E']:.4f} + {law['A']:.4g}/N^{law['alpha']:.4f} + {law['B']:.4g}/D^{law['beta']:.4f}"
    console.print(f"L(N, D) = {terms}, N is {found['convention']['N']}, C = 6ND")
    left_out = f", left out: lines {', '.join(map(str, dropped))}" if dropped else ""
    console.print(f"{law['num_points']} points, mean error {law['mean_relative_error']:.2%}; outliers: {found['outliers']['policy']}{left_out}")


def _optima(name: str, exponent: str, fit: dict[str, Any]) -> Table:
    words = {"isoflop": "Parabola per budget", "envelope": "Envelope of training curves", "parametric": "Parametric law"}
    title = f"{words[name]}: " + (f"tokens = {fit['A']:.4g} C^{fit['alpha']:.4f}" if "budgets" in fit else f"parameters ~ C^{fit[exponent]:.4f}")
    table = Table(title=title, title_justify="left")
    for column in ("FLOPs", "tokens", "90 %", "parameters", "tokens per parameter"):
        table.add_column(column, justify="right")
    intervals = fit.get("intervals") or {}
    tokens_at = (intervals if "tokens_at" in intervals else intervals.get("bootstrap") or intervals.get("jackknife") or {}).get("tokens_at", {})
    for budget, tokens in fit["tokens_at"].items():
        size = fit["parameters_at"][budget]
        ends = tokens_at.get(budget)
        shown = f"{format_count(ends[0])} to {format_count(ends[1])}" if ends else "not known"
        table.add_row(budget, format_count(tokens), shown, format_count(size), f"{tokens / size:.3g}")
    return table


def _print_ladder(found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    shared = found["exponents"]
    exponents = "" if shared is None else f", exponents of all tasks: sizes {shared['alpha']:.3f}, data {shared['beta']:.3f}"
    console.print(f"{len(found['fitted'])} runs fitted, form {found['form']}{exponents}")
    for name, run in found["runs"].items():
        title = f"{name}: {format_count(run['parameters'])} parameters, {format_count(run['tokens'])} tokens"
        table = Table(title=title, title_justify="left")
        for column in ("task", "bits", "accuracy", "90 %", "measured", "error"):
            table.add_column(column, justify="left" if column == "task" else "right")
        for task, row in run["tasks"].items():
            ends = "not known" if row["interval"] is None else f"{row['interval'][0]:.3f} to {row['interval'][1]:.3f}"
            error = "" if row["relative_error"] is None else f"{row['relative_error']:+.1%}"
            table.add_row(task, f"{row['bits']:.3f}", f"{row['accuracy']:.3f}", ends, f"{row['measured_accuracy']:.3f}", error)
        console.print(table)
        if run["mean_relative_error"] is not None:
            console.print(f"mean error {run['mean_relative_error']:.1%}" + ("" if run["coverage"] is None else f"; in the interval: {run['coverage']:.0%}"))
