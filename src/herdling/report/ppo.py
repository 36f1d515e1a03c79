"""What PPO reports: the learned reward on held-out prompts beside the distance that it cost, iteration by iteration, and whether its gauges held.

Made from the plain data of `curve.json` (`stages.ppo`) and the lines of `metrics.jsonl`. The pictures are those by which Llama 2, section 3.2.3, says when to
stop; a learned reward is not a person's, so the section says what it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from herdling.report.card import Row, StageCard
from herdling.report.chart import line_chart
from herdling.report.curves import Curve, CurveChart, points_of
from herdling.report.section import SectionChart, StageSection
from herdling.report.tables import Table

LEARNED = (
    "The reward is that of the reward models that were learned from, in logits: it shows that there was learning, not that answers are better. A stage of kind"
    " judge asks judges that no training saw."
)
LOOKS_NOTE = (
    "Means over the same prompts with the same random numbers at each look. KL: how far the policy is from the model that it is held near to, in nats an"
    " answer. The weights of the best look are what comes out."
)
GAUGES_NOTE = (
    "Drift: how far log-probabilities of the sampling engine lie from the trainer's, on the same answers. Explained variance: of the returns, by the critic's"
    " values before it learned from them; 1 is all, 0 is none, below it knows less than nothing."
)


def ppo_section(stage: StageCard) -> StageSection:
    """Return the section of a stage of kind ppo."""
    rows, looks = stage.ppo["iterations"], stage.ppo["held_out"]
    tables = [looks_table(looks)] if looks else []
    return StageSection(stage=stage.name, notes=(LEARNED,), tables=(*tables, iterations_table(rows)), charts=tuple(_charts(stage, rows, looks)))


def looks_table(looks: Sequence[Row]) -> Table:
    """One row a look at the held-out prompts, the best one marked."""
    best = max(looks, key=lambda row: _low(row["reward"]))  # the first of equals, as the stage keeps it
    has_parts = any(row["safety"] is not None for row in looks)
    columns = ["before iteration", "reward", *(["helpfulness", "safety"] if has_parts else []), "KL, nats", "tokens", "did not end", "not judged"]
    rows = [[f"{row['iteration']:,}" + (" (best)" if row is best else ""), *_cells(row, has_parts)] for row in looks]
    return Table(title="Held-out prompts", columns=columns, rows=rows, note=LOOKS_NOTE)


def iterations_table(rows: Sequence[Row]) -> Table:
    """The answers learned from, in the first iteration and in the last, and the extreme of each gauge."""
    first, last = rows[0], rows[-1]
    names = {
        "reward": "reward, logits",
        "kl": "KL, nats an answer",
        "entropy": "entropy, nats a token",
        "length": "tokens an answer",
        "beta": "beta",
        "explained_variance": "explained variance",
        "drift": "drift, nats a token",
    }
    cells = [[title, *(_number(one) for one in (first[name], last[name], *_extremes(rows, name)))] for name, title in names.items()]
    return Table(title="Answers learned from", columns=["", "first iteration", "last", "least", "most"], rows=cells, note=GAUGES_NOTE)


def _cells(row: Row, has_parts: bool) -> list[str]:
    parts = [_number(row["helpfulness"]), _number(row["safety"])] if has_parts else []
    return [_number(row["reward"]), *parts, _number(row["kl"]), f"{row['length']:.1f}", f"{row['without_end']:,}", f"{row['not_judged']:,}"]


def _charts(stage: StageCard, rows: Sequence[Row], looks: Sequence[Row]) -> list[SectionChart]:
    both = {"held-out prompts": looks, "answers learned from": rows}
    steps = [row for row in stage.metrics if row.get("split") == "train"]
    each = max(1, len(steps) // max(1, len(rows)))
    clipped = {"ratios of the policy": "clip_fraction", "values of the critic": "value_clip_fraction"}
    drawn = [
        ("Learned reward", "reward, logits", {label: _by_iteration(part, "reward") for label, part in both.items()}),
        ("Distance from the reference", "KL, nats an answer", {label: _by_iteration(part, "kl") for label, part in both.items()}),
        ("Clipped", "share of tokens", {label: _by_step(steps, name, each) for label, name in clipped.items()}),
        ("Explained variance of the returns", "share", {"critic": _by_iteration(rows, "explained_variance")}),
        ("Length of the answers", "tokens", {label: _by_iteration(part, "length") for label, part in both.items()}),
    ]
    return [_picture(title, unit, curves) for title, unit, curves in drawn if any(len(points) > 1 for points in curves.values())]


def _picture(title: str, unit: str, curves: Mapping[str, list[tuple[float, float]]]) -> SectionChart:
    there = {label: points for label, points in curves.items() if len(points) > 1}
    chart = CurveChart(title=title, x_unit="iteration", y_unit=unit, curves=[Curve(label=label, points=points) for label, points in there.items()])
    # A single line is drawn in the second colour, which a legend would not name.
    return SectionChart(title=title, picture=Markup(line_chart(chart)), caption=unit, labels=tuple(there) if len(there) > 1 else ())


def _by_iteration(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    return points_of(rows, "iteration", name)


def _by_step(steps: Sequence[Row], name: str, each: int) -> list[tuple[float, float]]:
    """Return the mean over the steps of each iteration."""
    found = [points_of(steps[start : start + each], "step", name) for start in range(0, len(steps), each)]
    return [(float(number), sum(y for _, y in points) / len(points)) for number, points in enumerate(found) if points]


def _extremes(rows: Sequence[Row], name: str) -> tuple[float | None, float | None]:
    values = [row[name] for row in rows if row[name] is not None]
    return (min(values), max(values)) if values else (None, None)


def _low(value: Any) -> float:
    return float("-inf") if value is None else float(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}" if 0 < abs(value) < 0.001 else f"{value:,.3f}"
