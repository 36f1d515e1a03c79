"""What `herdling fit` prints for people: optima by each method, forecasts of tasks, data mixes in their order."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from herdling.base.units import format_count


def print_sweep(found: dict[str, Any]) -> None:
    """Print optima by every method, how far these disagree, and plans beside them."""
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
    for what, plans in (("with the tokens per parameter asked for", found["over_trained"]), ("within the data there is", found["limited"])):
        for budget, plan in plans.items():
            console.print(
                f"{what}, {budget} trains {format_count(plan['parameters'])} parameters on {format_count(plan['tokens'])} tokens: loss {plan['loss']:.4f} for "
                f"{plan['optimal_loss']:.4f}, {plan['wasted_compute']:.1%} of the compute wasted, a served token at {plan['serving_cost']:.2g} times the cost"
            )
    if found["repeated_lines"]:
        shown = ", ".join(map(str, found["repeated_lines"][:5])) + (" and more" if len(found["repeated_lines"]) > 5 else "")
        console.print(
            f"{len(found['repeated_lines'])} rows repeat earlier ones to the last digit (lines {shown}): copies make intervals too narrow; delete them"
        )
    held = found["held_out"]
    if "num_rows" in held:
        beside = f", {held['by_curve']:.2%} by the curve through the lowest points" if held["by_curve"] is not None else ""
        console.print(
            f"the largest budget left out: {held['num_rows']} losses predicted with a mean error of {held['mean_relative_error']:.2%} by the law{beside}"
        )
    else:
        console.print(f"not scored on a left-out budget: {held['not_scored']}")


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
    for column in ("FLOPs", "tokens", "90 %", "parameters", "tokens per parameter", *(["loss"] if "loss_at" in fit else [])):
        table.add_column(column, justify="right")
    intervals = fit.get("intervals") or {}
    tokens_at = (intervals if "tokens_at" in intervals else intervals.get("bootstrap") or intervals.get("jackknife") or {}).get("tokens_at", {})
    for budget, tokens in fit["tokens_at"].items():
        size = fit["parameters_at"][budget]
        ends = tokens_at.get(budget)
        shown = f"{format_count(ends[0])} to {format_count(ends[1])}" if ends else "not known"
        loss = [f"{fit['loss_at'][budget]:.4f}"] if "loss_at" in fit else []
        table.add_row(budget, format_count(tokens), shown, format_count(size), f"{tokens / size:.3g}", *loss)
    return table


def print_ladder(found: dict[str, Any]) -> None:
    """Print the forecasts of larger runs, task by task."""
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


def print_mixes(found: dict[str, Any]) -> None:
    """Print the mixes, the best first, and whether the order is known."""
    console = Console(highlight=False, soft_wrap=True)
    at = found["at"]
    title = f"Expected loss at {at['flops']:.3g} FLOPs: {format_count(at['parameters'])} parameters, {format_count(at['tokens'])} tokens"
    table = Table(title=title, title_justify="left")
    for column in ("mix", "runs", *found["sources"], "mean", "90 %", "best"):
        table.add_column(column, justify="left" if column == "mix" else "right", no_wrap=column != "mix")
    for name, mix in found["mixes"].items():
        losses = [f"{source['loss']:.4f}" for source in mix["losses"].values()]
        low, high = mix["interval"]
        table.add_row(name, str(mix["num_runs"]), *losses, f"{mix['mean']:.4f}", f"{low:.4f} to {high:.4f}", f"{mix['chance_best']:.0%}")
    console.print(table)
    for name, mix in found["mixes"].items():
        if name != found["best"]:
            least, most = mix["behind_best_interval"]
            console.print(f"{name} is {mix['behind_best']:.4f} behind {found['best']} (90 %: {least:.4f} to {most:.4f})")
    for source, law in found["sources"].items():
        missed = law["missed_largest_runs"]
        score = "too few runs to score it on the largest" if missed is None else f"the largest runs, forecast from the others, missed by {missed:.2%}"
        console.print(f"{source}: exponents {law['exponents']}; {score}")
    if found["not_told_apart"]:
        others = " and ".join(found["not_told_apart"])
        console.print(f"not told apart from {found['best']}: {others}. The difference is within what these runs can tell; add runs, the larger the better")
    else:
        console.print(f"{found['best']} is the best: no other comes up to it in 90 % of the worlds that these runs allow")
