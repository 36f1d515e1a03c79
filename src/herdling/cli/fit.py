"""`herdling fit isoflop|parametric|ladder|mixes FILE.csv`: what measured runs say of larger ones, with intervals and the score on what was left out.

Reads tables only, prints a table or JSON, draws an SVG; starts without torch, answers in about a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer

from herdling.base.artifact import write_text_atomic
from herdling.base.errors import SettingsError
from herdling.base.units import parse_count, parse_flops
from herdling.cli.fit_table import print_ladder, print_mixes, print_sweep

app = typer.Typer(help="Forecast larger runs from measured ones: isoFLOP sweeps, parametric laws, task ladders, data mixes.", no_args_is_help=True)
Form = Literal["shared", "per_task", "llama3"]
DEFAULT_FLOPS = 3.8e25
"""Llama 3 405B's."""
MOST_TOKENS_PER_PARAMETER = 1e7
TIMES_LARGEST = 10.0
"""How much larger than the largest run the model is that a data mix is chosen for, where nobody says."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .csv or .csv.gz with a line for each run.")]
At = Annotated[list[str] | None, typer.Option("--at", help="Compute in FLOPs to forecast for, such as 3.8e25; may be given more than once.")]
Outliers = Annotated[str, typer.Option("--outliers", help="keep, highest:K (leave out the K highest losses) or residual:Z (beyond Z robust deviations).")]
Large = Annotated[float, typer.Option("--large-runs", min=0, help="Power of its compute with which a run counts; 0.3 forecasts losses better than 0.")]
Bootstraps = Annotated[int, typer.Option("--bootstraps", min=20, help="Resamples for the intervals.")]
Served = Annotated[str, typer.Option("--served", help="Tokens the model will serve, such as 10T: also plan for the least cost of training and serving.")]
Ratio = Annotated[float | None, typer.Option("--tokens-per-parameter", help="Also plan for a model trained on this many: past the optimum, cheaper to serve.")]
Most = Annotated[str | None, typer.Option("--max-tokens", help="All the data there is, such as 15T: also plan for the best within it.")]
Picture = Annotated[Path | None, typer.Option("--picture", metavar="FILE.svg", help="Draw it, for light and dark screens.")]
Json = Annotated[bool, typer.Option("--json", help="Write it for a program.")]


@app.command("isoflop")
def isoflop(
    file: File,
    at: At = None,
    outliers: Outliers = "keep",
    large_runs: Large = 0.0,
    bootstraps: Bootstraps = 300,
    served: Served = "0",
    tokens_per_parameter: Ratio = None,
    max_tokens: Most = None,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Fit a sweep of several sizes at each of a few budgets: columns compute_budget, training_tokens, validation_loss, perhaps parameters."""
    aims = _aims(served, tokens_per_parameter, max_tokens)
    _fit_sweep(file, at, picture, as_json=as_json, outliers=outliers, large_runs=large_runs, num_bootstraps=bootstraps, **aims)


@app.command("parametric")
def parametric(
    file: File,
    at: At = None,
    outliers: Outliers = "keep",
    large_runs: Large = 0.0,
    bootstraps: Bootstraps = 300,
    served: Served = "0",
    tokens_per_parameter: Ratio = None,
    max_tokens: Most = None,
    trajectories: Annotated[bool, typer.Option("--trajectories", help="Rows are points along training curves: fit their envelope too.")] = False,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Fit L(N, D) = E + A/N^alpha + B/D^beta to runs of any sizes: two of compute, parameters and tokens, and a loss."""
    aims = _aims(served, tokens_per_parameter, max_tokens)
    _fit_sweep(
        file,
        at,
        picture,
        as_json=as_json,
        isoflop=False,
        trajectories=trajectories,
        outliers=outliers,
        large_runs=large_runs,
        num_bootstraps=bootstraps,
        **aims,
    )


@app.command("ladder")
def ladder(
    file: File,
    curves: Annotated[Path | None, typer.Option("--curves", help="A second file with the training curves of these runs, for the second stage.")] = None,
    largest: Annotated[float | None, typer.Option("--largest", help="Fit runs up to this many parameters; else those up to the largest of role fit.")] = None,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="A task to forecast; may be given more than once. All, if none is given.")] = None,
    form: Annotated[str, typer.Option("--form", help="shared, per_task or llama3: the law of bits per byte.")] = "shared",
    picture: Picture = None,
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
    if picture is not None:
        from herdling.plan.downstream import fit_ladder
        from herdling.report.ladder_picture import ladder_picture

        _draw(picture, ladder_picture(fit_ladder(fitted, form=cast(Form, form)), fitted, larger))
    _give(found, print_ladder, as_json=as_json)


@app.command("mixes")
def mixes(
    file: File,
    at: Annotated[str | None, typer.Option("--at", help="Compute in FLOPs of the large model; else ten times the largest run.")] = None,
    tokens_per_parameter: Annotated[float | None, typer.Option("--tokens-per-parameter", help="Of the large model; else as the largest runs have.")] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weight", metavar="SOURCE=W", help="What a held-out source counts; all alike, if none is given.")
    ] = None,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Choose a data mix by its predicted loss: columns mix, two of C, N and D, and loss_SOURCE for each held-out source (or one loss)."""
    from herdling.plan.data_mix import describe_mixes, fit_mixes, forecast_mixes, usual_ratio
    from herdling.plan.measurements import read_mixes

    rows = read_mixes(file)
    ratio = usual_ratio(rows) if tokens_per_parameter is None else tokens_per_parameter
    _check_ratio(ratio)
    flops = TIMES_LARGEST * float(rows.flops.max()) if at is None else parse_flops(at, "--at")
    importance = dict(_weight(text) for text in weights or [])
    fit = fit_mixes(rows)
    found = forecast_mixes(fit, flops, ratio, importance=importance)
    if picture is not None:
        from herdling.report.fit_picture import mixes_picture

        _draw(picture, mixes_picture(fit, found, flops, ratio))
    _give(describe_mixes(fit, found, flops, ratio, importance), print_mixes, as_json=as_json)


def _weight(text: str) -> tuple[str, float]:
    source, _, weight = text.partition("=")
    try:
        return source.strip(), float(weight)
    except ValueError:
        raise SettingsError(f"--weight {text}: expected SOURCE=WEIGHT, such as code=2") from None


def _aims(served: str, tokens_per_parameter: float | None, max_tokens: str | None) -> dict[str, float | None]:
    """Return what plans beside the compute-optimal one are for."""
    if tokens_per_parameter is not None:
        _check_ratio(tokens_per_parameter)
    most = None if max_tokens is None else float(parse_count(max_tokens, where="--max-tokens"))
    return {"served_tokens": float(parse_count(served, where="--served")), "tokens_per_parameter": tokens_per_parameter, "max_tokens": most}


def _check_ratio(ratio: float) -> None:
    if not 0 < ratio <= MOST_TOKENS_PER_PARAMETER:
        raise SettingsError(f"--tokens-per-parameter {ratio:g}: expected a number above 0, at most {MOST_TOKENS_PER_PARAMETER:g}, such as 200")


def _fit_sweep(file: Path, at: list[str] | None, picture: Path | None, *, as_json: bool, **settings: Any) -> None:
    from herdling.plan.measurements import read_losses
    from herdling.plan.sweep import fits_of, forecast_sweep

    rows, flops = read_losses(file), [parse_flops(text, "--at") for text in at] if at else [DEFAULT_FLOPS]
    found = forecast_sweep(rows, flops, **settings)
    if picture is not None:
        from herdling.report.fit_picture import sweep_picture

        line, fit = fits_of(rows, **{name: settings[name] for name in ("outliers", "large_runs", "isoflop") if name in settings})
        _draw(picture, sweep_picture(rows, line, fit, flops))
    _give(found, print_sweep, as_json=as_json)


def _give(found: dict[str, Any], show: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
    else:
        show(found)


def _draw(path: Path, drawn: str) -> None:
    if path.suffix != ".svg":
        raise SettingsError(f"--picture {path}: expected a name that ends in .svg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, drawn)
    except OSError as error:
        raise SettingsError(f"--picture {path}: cannot be written ({error.strerror})") from None
