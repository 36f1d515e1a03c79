"""What the report shows of a retention stage: how long an instruction held that was given once (Llama 2, table 30)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from herdling.report.card import Row, StageCard
from herdling.report.chart import Interval, interval_chart
from herdling.report.reward import share
from herdling.report.section import SectionChart, StageSection
from herdling.report.tables import Table

PARTS = {"trained": "constraints of training", "new": "constraints that training never named"}
NOTE = (
    "Share of answers that keep to the instruction, with its 95 % interval; checked by a program. Once: it stands in the first message only. Reminded: it is"
    " repeated before the question, which tells what the model can do at all. Not counted: a dialog beyond the context, and a question whose usual answer"
    " would pass as it is."
)


def retention_section(stage: StageCard) -> StageSection:
    """Return the section of a stage of kind retention."""
    turns = [str(turn) for turn in stage.retention["turns"]]
    tables = [table for part in PARTS if (table := _kept_table(stage.retention["models"], part, turns))]
    first = Table(title=tables[0].title, columns=tables[0].columns, rows=tables[0].rows, note=NOTE)
    charts = tuple(chart for part in PARTS if (chart := _chart(stage, part, turns)))
    return StageSection(stage=stage.name, notes=(), tables=(first, *tables[1:], _by_constraint(stage.retention["by_constraint"], turns)), charts=charts)


def _kept_table(models: Mapping[str, Row], part: str, turns: list[str]) -> Table | None:
    """Models and ways of asking as rows, turns as columns; None where nothing of this part was asked."""
    rows = [
        [f"{label}, {asked}", *(_cell(cells.get(turn)) for turn in turns)] for label, parts in models.items() for asked, cells in parts.get(part, {}).items()
    ]
    return Table(title=f"Instruction kept, {PARTS[part]}", columns=["", *(f"turn {turn}" for turn in turns)], rows=rows) if rows else None


def _chart(stage: StageCard, part: str, turns: list[str]) -> SectionChart | None:
    """For each turn the models side by side, the instruction given once."""
    models = stage.retention["models"]
    groups = []
    for turn in turns:
        cells = [(label, parts.get(part, {}).get("once", {}).get(turn)) for label, parts in models.items()]
        found = [Interval(label=label, value=cell["share"], low=cell["low"], high=cell["high"]) for label, cell in cells if cell and cell["total"]]
        if found:
            groups.append((f"turn {turn}", found))
    if not groups:
        return None
    title = PARTS[part][0].upper() + PARTS[part][1:]
    picture = Markup(interval_chart(groups, f"{stage.name}: instruction kept, {PARTS[part]}"))
    return SectionChart(title=title, picture=picture, caption="share of answers that keep to the instruction", labels=tuple(models))


def _by_constraint(found: Mapping[str, Mapping[str, Row]], turns: list[str]) -> Table:
    names = list(dict.fromkeys(name for constraints in found.values() for name in constraints))
    columns = ["constraint", *(f"{label}, turn {turn}" for label in found for turn in turns)]
    rows = [[name, *(_count(constraints.get(name, {}).get(turn)) for constraints in found.values() for turn in turns)] for name in names]
    return Table(title="Constraint by constraint", columns=columns, rows=rows, note="Answers that keep to it, of those counted, where it was given once.")


def _cell(cell: Mapping[str, Any] | None) -> str:
    if not cell:
        return "-"
    beyond = cell["not_counted"].get("longer than the context", 0)
    if not cell["total"]:
        return "beyond the context" if beyond else "-"
    return f"{share(cell, 'share')} of {cell['total']:,}" + (f", {beyond:,} beyond the context" if beyond else "")


def _count(counts: list[int] | None) -> str:
    return "-" if not counts else f"{counts[0]} of {counts[1]}"
