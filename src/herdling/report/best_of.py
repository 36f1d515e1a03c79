"""What rejection sampling and context distillation report: what the best of k samples is worth, at each temperature, and what pre-prompts bettered.

Made from the plain data of `curves.json` (`evals.best_of_k`) and `preprompts.json` (`stages.context_distillation`). The pictures are those of Llama 2,
figure 7: the maximum rises with k, the median does not; the gap is what there is to gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from herdling.report.card import Row, StageCard
from herdling.report.chart import line_chart
from herdling.report.curves import Curve, CurveChart
from herdling.report.section import SectionChart, StageSection
from herdling.report.tables import Table

CURVES_NOTE = (
    "Means over prompts with their 95 % intervals; rewards are logits of the reward models that chose, so the gain is theirs, not a person's. Unusable: samples"
    " that never ended, are empty or cannot be judged; they count as the lowest reward that was seen."
)
PREPROMPTS_NOTE = "Bettered: how often the safety reward model scored the answer above the one without a pre-prompt, with its 95 % interval. Lead: by how much."


def samples_section(stage: StageCard) -> StageSection:
    """Return the section of a stage that made samples and measured what they are worth."""
    tables, charts = [], []
    if stage.curves:
        tables.append(temperatures_table(stage.curves))
        charts += _charts(stage.curves)
    if stage.preprompts:
        tables.append(preprompts_table(stage.preprompts))
    return StageSection(stage=stage.name, notes=(), tables=tuple(tables), charts=tuple(charts))


def temperatures_table(results: Row) -> Table:
    """One row a temperature on held-out prompts, and one of the training prompts at the one that was chosen."""
    chosen = results["temperature"]
    rows = [_curve_row(f"{row['temperature']:g}" + (" (chosen)" if row["temperature"] == chosen else ""), row) for row in results["held_out"]]
    rows.append(_curve_row(f"{chosen:g}, training", results["train"]))
    best = f"best of {results['num_samples']}"
    return Table(title="What the best sample is worth", columns=["temperature", "prompts", "unusable", "mean", "median", best], rows=rows, note=CURVES_NOTE)


def _curve_row(label: str, row: Row) -> list[str]:
    unusable = row["unusable"] / row["samples"] if row["samples"] else 0.0
    return [label, f"{row['prompts']:,}", f"{unusable:.1%}", *(_last(row[kind]) for kind in ("mean", "median", "max"))]


def _last(curve: Mapping[str, Any]) -> str:
    return _with_bounds(curve["value"][-1], None if curve["low"] is None else (curve["low"][-1], curve["high"][-1]))


def _with_bounds(value: float, bounds: Sequence[float] | None, sign: str = "") -> str:
    return f"{value:{sign}.2f}" + ("" if bounds is None else f" ({bounds[0]:{sign}.2f} to {bounds[1]:{sign}.2f})")


def preprompts_table(results: Row) -> Table:
    """One row a kind of pre-prompt."""
    rows = []
    for kind, row in results.items():
        low, high = row["interval"]
        share = f"{row['bettered']:.1%} ({100 * low:.1f}-{100 * high:.1f})"
        rows.append([kind, f"{row['prompts']:,}", share, f"{row['worse'] / row['prompts']:.1%}", _with_bounds(row["lead"], row["lead_interval"], "+")])
    return Table(title="What pre-prompts are worth", columns=["pre-prompt", "prompts", "bettered", "worsened", "lead"], rows=rows, note=PREPROMPTS_NOTE)


def _charts(results: Row) -> list[SectionChart]:
    held_out, trained = results["held_out"], results["train"]
    labels = tuple(f"temperature {row['temperature']:g}" for row in held_out)
    charts = []
    for kind, title in (("max", "Maximum of k samples, held-out prompts"), ("median", "Median of k samples, held-out prompts")):
        # Without bands: those of single temperatures say nothing of their differences, for all met the same prompts with the same luck.
        curves = [replace(_curve(label, row, kind), band=()) for label, row in zip(labels, held_out, strict=True)]
        charts.append((title, "in logits; every temperature met the same prompts with the same luck", curves))
    title, caption = f"Training prompts at temperature {results['temperature']:g}", "in logits; the gap between maximum and median is what there is to gain"
    charts.append((title, f"{caption}; bands are 95 % intervals over prompts", [_curve(kind, trained, kind) for kind in ("max", "median", "mean")]))
    return [_picture(title, caption, curves) for title, caption, curves in charts if len(trained["k"]) > 1]


def _curve(label: str, row: Row, kind: str) -> Curve:
    ks, found = row["k"], row[kind]
    band = () if found["low"] is None else tuple(zip(ks, found["low"], found["high"], strict=True))
    return Curve(label=label, points=list(zip(ks, found["value"], strict=True)), band=band)


def _picture(title: str, caption: str, curves: Sequence[Curve]) -> SectionChart:
    chart = CurveChart(title=title, x_unit="k", y_unit="reward, logits", curves=curves)
    labels = tuple(curve.label for curve in curves)
    # A single line is drawn in the second colour, which a legend would not name.
    return SectionChart(title=title, picture=Markup(line_chart(chart)), caption=caption, labels=labels if len(labels) > 1 else ())
