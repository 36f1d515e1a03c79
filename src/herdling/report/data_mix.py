"""What the report shows of a choice between data mixes: the loss that is forecast on each, the chance that it is the best, and whether they are told apart.

Made from the plain data of `mixes.json` (the stage choose_mix; what `herdling fit mixes --json` prints) and from the weights in the stage's settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from herdling.base.units import format_count
from herdling.report.card import Row, StageCard
from herdling.report.section import StageSection, drawn_chart
from herdling.report.tables import Table

NOTE = (
    "The best first. Loss: nats a token, the mean over the held-out sources by their importance, with its 90 % interval. Behind: how much more than the best,"
    " with the interval of that difference. Chance: to be the best, of worlds that the small runs allow."
)


def mix_section(stage: StageCard) -> StageSection:
    """Return the section of a choice between mixes."""
    found = stage.mixes
    weights = stage.settings.get("mixes", {})
    tables = [_forecast_table(found), _sources_table(found), *([_weights_table(weights)] if weights else [])]
    chart = drawn_chart(stage, "mixes", "Loss of each source over compute", "dots are small runs; rings are forecasts with their 90 % intervals, side by side")
    return StageSection(stage=stage.name, notes=tuple(_notes(found)), tables=tuple(tables), charts=(chart,), warnings=tuple(_warnings(found)))


def _forecast_table(found: Row) -> Table:
    rows = [
        [
            name,
            f"{mix['mean']:.4f}",
            _between(mix["interval"]),
            *([f"{mix['behind_best']:.4f}", _between(mix["behind_best_interval"])] if name != found["best"] else ["-", "-"]),
            f"{mix['chance_best']:.0%}",
            str(mix["num_runs"]),
        ]
        for name, mix in found["mixes"].items()
    ]
    return Table(title="Forecast of each mix", columns=["mix", "loss", "90 %", "behind", "90 %", "chance", "runs"], rows=rows, note=NOTE)


def _sources_table(found: Row) -> Table:
    """One row a mix, one column a held-out source. An interval reaches as far to both sides."""
    rows = [
        [name, *(f"{source['loss']:.4f} ± {source['interval'][1] - source['loss']:.4f}" for source in mix["losses"].values())]
        for name, mix in found["mixes"].items()
    ]
    return Table(title="Loss of each held-out source", columns=["mix", *found["sources"]], rows=rows, note="Nats a token, ± the 90 % interval.")


def _weights_table(mixes: Mapping[str, Mapping[str, float]]) -> Table:
    sources = list(dict.fromkeys(source for weights in mixes.values() for source in weights))
    rows = [[name, *(f"{weights.get(source, 0) / sum(weights.values()):.1%}" for source in sources)] for name, weights in mixes.items()]
    return Table(title="What each mix holds", columns=["mix", *sources], rows=rows)


def _between(ends: Sequence[float]) -> str:
    return f"{ends[0]:.4f} to {ends[1]:.4f}"


def _notes(found: Row) -> Sequence[str]:
    at = found["at"]
    size = f"{format_count(at['parameters'])} parameters on {format_count(at['tokens'])} tokens"
    counts = ", ".join(f"{source} {share:.0%}" for source, share in found["importance"].items())
    notes = [f"Forecast for {at['flops']:.3g} FLOPs, {at['times_largest']:.3g} times the largest small run: {size}. What a source counts: {counts}."]
    scores = [f"{source} {law['missed_largest_runs']:.2%}" for source, law in found["sources"].items() if law["missed_largest_runs"] is not None]
    if scores:
        notes.append(f"The largest small runs, forecast from the others, are missed on average by: {', '.join(scores)}.")
    return notes


def _warnings(found: Row) -> Sequence[str]:
    best, others = found["best"], found["not_told_apart"]
    if not others:
        return []
    chance = found["mixes"][best]["chance_best"]
    return [f"{best} is not told apart from {' and '.join(others)}: its chance to be the best is {chance:.0%}. Add small runs, the larger the better."]
