"""What the report shows of a sweep and of a model that it forecast: where the optima lie, what is expected at larger budgets, and how near that came.

Made from the plain data of `fit.json`, `forecast.json` and `law.json` (the stage scaling_laws), and of `loss_forecast.json` (pretrain by a law).
"""

from __future__ import annotations

from collections.abc import Sequence

from herdling.base.units import format_count
from herdling.report.card import Row, StageCard
from herdling.report.section import StageSection, drawn_chart
from herdling.report.tables import Table

METHODS = (("isoflop", "parabolas (Llama 3)"), ("envelope", "envelope of sizes"), ("parametric", "parametric law"))
FORECAST_NOTE = (
    "The size is where the parabolas' power law puts the optimum, as the nearest shape of the family; the loss, in nats a token of held-out rows, is that of a"
    " curve through the lowest point of each budget, with its 90 % interval. The law: what the parametric law says instead. Exact FLOPs: what the law would"
    " choose if every product were paid, attention too, and not 6ND."
)


def has_law(stage: StageCard) -> bool:
    """Say whether a stage fitted a law, or was forecast by one."""
    return bool(stage.scaling_law or stage.loss_forecast)


def law_section(stage: StageCard) -> StageSection:
    """Return the section of a sweep, or of a model that one forecast."""
    return _sweep_section(stage) if stage.scaling_law else _model_section(stage)


def _sweep_section(stage: StageCard) -> StageSection:
    law, fit, forecast = (stage.scaling_law[name] for name in ("law", "fit", "forecast"))
    tables = [*([_forecast_table(forecast)] if forecast else []), _methods_table(fit), _budgets_table(fit)]
    charts = [
        drawn_chart(stage, "isoflop", "Loss at each budget", "each dot a training of its own; the lowest point of a parabola is the budget's best"),
        drawn_chart(stage, "law", "Optimal tokens and least loss over compute", "bands and whiskers are 90 % intervals"),
    ]
    return StageSection(
        stage=stage.name, notes=tuple(_notes(stage.summary, law, fit)), tables=tuple(tables), charts=tuple(charts), warnings=tuple(_warnings(law, fit))
    )


def _forecast_table(forecast: Row) -> Table:
    rows = []
    for flops, row in forecast.items():
        exact = row.get("by_exact_flops")
        expected = [f"{row['loss']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}"] if "loss" in row else ["not known", ""]
        law = f"{row['law']:.3f}" if "law" in row else "-"
        beside = f"{format_count(exact['parameters'])} on {format_count(exact['tokens'])}" if exact else "-"
        rows.append([flops, format_count(row["parameters"]), format_count(row["tokens"]), *expected, law, beside])
    columns = ["FLOPs", "parameters", "tokens", "loss", "90 %", "by the law", "by exact FLOPs"]
    return Table(title="Forecast", columns=columns, rows=rows, note=FORECAST_NOTE)


def _methods_table(fit: Row) -> Table:
    """One row a method and budget that was asked for: the optimal tokens."""
    rows = []
    for name, label in METHODS:
        found = fit[name]
        for flops, tokens in (found or {}).get("tokens_at", {}).items():
            size = found["parameters_at"][flops]
            rows.append([label, flops, format_count(tokens), _interval(found, flops), format_count(size), f"{tokens / size:.3g}"])
    gaps = [f"At {flops} the parabolas ask for {gap['tokens_ratio']:.2f} times the tokens of the parametric law." for flops, gap in fit["disagreement"].items()]
    return Table(
        title="Optimal tokens by each method", columns=["method", "FLOPs", "tokens", "90 %", "parameters", "tokens each"], rows=rows, note=" ".join(gaps)
    )


def _interval(found: Row, flops: str) -> str:
    intervals = found.get("intervals") or {}
    ends = (intervals if "tokens_at" in intervals else intervals.get("bootstrap") or intervals.get("jackknife") or {}).get("tokens_at", {}).get(flops)
    return f"{format_count(ends[0])} to {format_count(ends[1])}" if ends else "-"


def _budgets_table(fit: Row) -> Table:
    rows = [
        [
            f"{valley['flops']:.2g}",
            str(valley["num_points"]),
            format_count(valley["tokens"]),
            format_count(valley["flops"] / 6 / valley["tokens"]),
            f"{valley['loss']:.3f}",
            "yes" if valley["inside"] else "no",
        ]
        for valley in fit["isoflop"]["budgets"]
    ]
    return Table(title="Lowest points of the parabolas", columns=["FLOPs", "runs", "tokens", "parameters", "loss", "among the runs"], rows=rows)


def _notes(summary: Row, law: Row, fit: Row) -> Sequence[str]:
    notes = [f"{law['convention']}. Exact FLOPs, attention too, are at most {law['largest_exact_ratio']:.2f} times 6ND."]
    if "held_out_error" in summary:
        notes.append(
            f"All runs are measured on the same {format_count(summary['held_out_tokens'])} held-out tokens: a difference between two of them is known to"
            f" {summary['held_out_error']:.4f} nats (one standard error), the level of all to {summary['held_out_error_of_level']:.3f}."
        )
    held = fit["held_out"]
    if "mean_relative_error" in held:
        beside = f", {held['by_curve']:.2%} by the curve through the lowest points" if held.get("by_curve") is not None else ""
        error = f"{held['mean_relative_error']:.2%} by the law{beside}"
        notes.append(f"With the largest budget left out, its {held['num_rows']} losses are predicted with a mean error of {error}.")
    else:
        notes.append(f"Not scored on a left-out budget: {held['not_scored']}")
    return notes


def _warnings(law: Row, fit: Row) -> Sequence[str]:
    outside = [f"{valley['flops']:.2g}" for valley in fit["isoflop"]["budgets"] if not valley["inside"]]
    found = [f"The lowest point lies outside the runs at {', '.join(outside)} FLOPs: move tokens_per_parameter or widen spread."] if outside else []
    if fit["parametric"] is None:
        found.append(f"No parametric law: {fit['not_fitted']}")
    return [*found, *(f"Left out of the fit: {row['name']}, {row['reason']}" for row in law["left_out"])]


def _model_section(stage: StageCard) -> StageSection:
    found = stage.loss_forecast
    if "loss" not in found:
        table = Table(title="Forecast and measured", columns=["held-out loss", "forecast"], rows=[[f"{found['measured']:.4f}", found["not_forecast"]]])
        return StageSection(stage=stage.name, notes=(), tables=(table,), charts=())
    columns = ["parameters", "tokens", "FLOPs over the largest budget", "forecast", "90 %", "measured", "error", "in the interval"]
    row = [
        *(format_count(found["parameters"]), format_count(found["tokens"]), f"{found['times_largest_budget']:.1f}", f"{found['loss']:.4f}"),
        *(f"{found['low']:.4f} to {found['high']:.4f}", f"{found['measured']:.4f}", f"{found['relative_error']:+.2%}", "yes" if found["in_interval"] else "no"),
    ]
    charts = (drawn_chart(stage, "loss_forecast", "Forecast and measured", "nats a token of the sweep's held-out rows"),)
    return StageSection(stage=stage.name, notes=(), tables=(Table(title="Forecast and measured", columns=columns, rows=[row]),), charts=charts)
