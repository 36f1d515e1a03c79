"""The report card of a run: one self-contained `report.html` (no script, no request, light and dark, any width) and `report.md` with the same tables.

Both are written from a `RunCard`. All text of users and models is escaped: the page by autoescape, the Markdown by `markdown_text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from herdling.base.artifact import write_text_atomic
from herdling.base.units import format_seconds
from herdling.report.best_of import samples_section
from herdling.report.card import Row, RunCard
from herdling.report.chart import Interval, bar_chart, interval_chart, line_chart
from herdling.report.curves import stage_charts
from herdling.report.data_mix import mix_section
from herdling.report.judgement import judgement_section
from herdling.report.lineage import lineage_chart, lineage_lines
from herdling.report.ppo import ppo_section
from herdling.report.retention import retention_section
from herdling.report.reward import reward_section
from herdling.report.scaling_law import has_law, law_section
from herdling.report.selection import has_selection, selection_section
from herdling.report.tables import (
    Table,
    bits_table,
    ledger_table,
    markdown_text,
    mixture_table,
    questions_table,
    settings_table,
    stages_table,
    words,
)

ANSWERS_PER_GROUP = 3
NUM_SAMPLES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One checked question with the answer of each model: label -> (answer, right or not)."""

    group: str
    question: str
    accepted: str
    answers: dict[str, tuple[str, bool]]


def write_report(folder: Path, card: RunCard) -> None:
    """Write `report.html` and `report.md` into a folder."""
    write_text_atomic(folder / "report.html", html_page(card))
    write_text_atomic(folder / "report.md", markdown_page(card))


def html_page(card: RunCard) -> str:
    """Return the whole page as one text."""
    environment = Environment(loader=PackageLoader("herdling.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["words"] = words
    return environment.get_template("page.html.jinja").render(
        card=card,
        style=Markup((files("herdling.report") / "style.css").read_text(encoding="utf-8")),
        facts=facts(card),
        headline=headline(card),
        quality=[table for table in (questions_table(card), bits_table(card)) if table],
        intervals=Markup(interval_chart(intervals(card), "Questions never seen in training")) if intervals(card) else "",
        mixes=[mix_section(stage) for stage in card.stages if stage.mixes],
        laws=[law_section(stage) for stage in card.stages if has_law(stage)],
        rewards=[reward_section(stage) for stage in card.stages if stage.reward],
        chosen=[samples_section(stage) for stage in card.stages if stage.curves or stage.preprompts],
        selections=[selection_section(stage) for stage in card.stages if has_selection(stage)],
        policies=[ppo_section(stage) for stage in card.stages if stage.ppo],
        judgements=[judgement_section(stage) for stage in card.stages if stage.judgement],
        retentions=[retention_section(stage) for stage in card.stages if stage.retention],
        curves=[(stage.name, [(chart, Markup(line_chart(chart))) for chart in stage_charts(stage)]) for stage in card.stages if stage_charts(stage)],
        samples=[(stage.name, list(stage.samples[:NUM_SAMPLES])) for stage in card.stages if stage.samples],
        asked=asked(card.answers),
        mixtures=[table for stage in card.stages if (table := mixture_table(stage))],
        ledgers=[table for stage in card.stages if (table := ledger_table(stage))],
        made=stages_table(card),
        times=Markup(bar_chart([(stage.name, stage.seconds, format_seconds(stage.seconds)) for stage in card.stages], "Time of each stage")),
        lineage=Markup(lineage_chart(card.stages)),
        settings=[table for stage in card.stages if (table := settings_table(stage))],
    )


def markdown_page(card: RunCard) -> str:
    """Return the report as Markdown."""
    tables: list[Table] = [table for table in (questions_table(card), bits_table(card)) if table]
    tables += [table for stage in card.stages if stage.mixes for table in mix_section(stage).named_tables]
    tables += [table for stage in card.stages if has_law(stage) for table in law_section(stage).named_tables]
    tables += [table for stage in card.stages if stage.reward for table in reward_section(stage).named_tables]
    tables += [table for stage in card.stages if stage.curves or stage.preprompts for table in samples_section(stage).named_tables]
    tables += [table for stage in card.stages if has_selection(stage) for table in selection_section(stage).named_tables]
    tables += [table for stage in card.stages if stage.ppo for table in ppo_section(stage).named_tables]
    tables += [table for stage in card.stages if stage.judgement for table in judgement_section(stage).named_tables]
    tables += [table for stage in card.stages if stage.retention for table in retention_section(stage).named_tables]
    tables += [stages_table(card)]
    tables += [table for stage in card.stages if (table := mixture_table(stage))]
    parts = [f"# {markdown_text(card.title)}", markdown_text(card.description), markdown_text(headline(card))]
    parts += ["\n".join(f"- {markdown_text(name)}: {markdown_text(value)}" for name, value in facts(card))]
    parts += [f"## {markdown_text(table.title)}\n\n{table.to_markdown()}" for table in tables]
    parts += _markdown_answers(asked(card.answers))
    parts += ["## Ledger: what became of every row", *_titled(table for stage in card.stages if (table := ledger_table(stage)))]
    parts += ["## Lineage", "\n".join(f"    {line}" for line in lineage_lines(card.stages))]
    parts += ["## Settings", *_titled(table for stage in card.stages if (table := settings_table(stage)))]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline(card: RunCard) -> str:
    """Say in one sentence what the run bought, from its own numbers; an empty text when nothing was measured."""
    totals = {label: _total(scores) for label, scores in card.scores.items()}
    measured = [(label, right, of) for label, (right, of) in totals.items() if of]
    if not measured:
        return ""
    label, right, of = measured[-1]
    before = f", {measured[0][0]} {measured[0][1]:,}" if len(measured) > 1 else ""
    return f"Of {of:,} questions never seen in training, {label} answers {right:,} right{before}. All of it took {format_seconds(card.seconds)}."


def facts(card: RunCard) -> list[tuple[str, str]]:
    """Return (name, value) of what the run was made with."""
    machine, code = card.machine, card.code
    version = f"herdling {code.get('version', '?')}" + (f" ({code['commit'][:10]})" if code.get("commit") else "")
    place = ", ".join(str(part) for part in (f"{machine.get('cores', '?')} cores", machine.get("processor", ""), machine.get("system", "")) if part)
    return [
        ("finished", card.finished.replace("T", " ").replace("+00:00", " UTC")),
        ("time", format_seconds(card.seconds)),
        ("machine", place),
        ("made with", f"{version}, Python {machine.get('python', '?')}"),
        ("seed", str(card.seed)),
    ]


def intervals(card: RunCard) -> list[tuple[str, list[Interval]]]:
    """Return for each group of questions the measured share of each model."""
    groups = dict.fromkeys(group for scores in card.scores.values() for group in scores.get("questions", {}))
    return [(words(group), [_interval(label, scores["questions"][group]) for label, scores in _with_group(card, group)]) for group in groups]


def asked(answers: Sequence[Row]) -> list[Asked]:
    """Put the answers of all models to one question side by side: the first few questions of each group."""
    questions: dict[str, list[Row]] = {}
    for row in answers:
        questions.setdefault(str(row.get("id", row.get("question", ""))), []).append(row)
    chosen: dict[str, list[Asked]] = {}
    for rows in questions.values():
        group = chosen.setdefault(str(rows[0].get("group", "")), [])
        if len(group) < ANSWERS_PER_GROUP:
            group.append(_asked(rows))
    return [question for group in chosen.values() for question in group]


def _asked(rows: Sequence[Row]) -> Asked:
    first = rows[0]
    return Asked(
        group=words(str(first.get("group", ""))),
        question=str(first.get("question", "")),
        accepted=" or ".join(str(text) for text in first.get("accepted", ())),
        answers={str(row.get("model", "")): (str(row.get("answer", "")), bool(row.get("correct"))) for row in rows},
    )


def _interval(label: str, score: Row) -> Interval:
    return Interval(label=label, value=score["accuracy"], low=score["low"], high=score["high"])


def _with_group(card: RunCard, group: str) -> list[tuple[str, Row]]:
    return [(label, scores) for label, scores in card.scores.items() if group in scores.get("questions", {})]


def _total(scores: Row) -> tuple[int, int]:
    groups = scores.get("questions", {}).values()
    return sum(group["correct"] for group in groups), sum(group["total"] for group in groups)


def _titled(tables: Iterable[Table]) -> list[str]:
    return [f"### {markdown_text(table.title)}\n\n{table.to_markdown()}" for table in tables]


def _markdown_answers(questions: Sequence[Asked]) -> list[str]:
    if not questions:
        return []
    lines = []
    for question in questions:
        lines.append(f"- **{markdown_text(question.question)}** ({markdown_text(question.group)}; accepted: {markdown_text(question.accepted)})")
        lines += [f"  - {markdown_text(label)}: {markdown_text(text)} ({'right' if right else 'wrong'})" for label, (text, right) in question.answers.items()]
    return ["## Answers, side by side", "\n".join(lines)]
