"""Tables of the report as plain values: made once, written as Markdown, as HTML or to a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from herdling.base.units import format_bytes, format_count, format_seconds
from herdling.report.card import Row, RunCard, StageCard

# A _ inside a word is a plain letter to Markdown.
_MEANS_SOMETHING = re.compile(r"[\\`*{}\[\]<>#|~$&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under named columns. The first column is words, the others stand to the right when `numeric`."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    numeric: bool = True

    def to_markdown(self) -> str:
        """Return a Markdown table; what would break one is escaped."""
        rule = ["---", *(["---:" if self.numeric else "---"] * (len(self.columns) - 1))]
        lines = [_markdown_row(self.columns), "|" + "|".join(rule) + "|", *(_markdown_row(row) for row in self.rows)]
        return "\n\n".join(["\n".join(lines), *(markdown_text(part) for part in self.note.split("\n\n") if part)])


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return " ".join(_MEANS_SOMETHING.sub(r"\\\g<0>", text).split())


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"


def words(name: str) -> str:
    """Turn a name of the code into words."""
    return name.replace("_", " ")


def shown(value: Any) -> str:
    """Write a value of a summary or of settings for a reader."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return "none" if value is None else "yes" if value else "no"
    if isinstance(value, int | float):
        return format_count(value) if abs(value) >= 10_000 else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    if isinstance(value, Mapping | Sequence) and not value:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, Sequence):
        return ", ".join(shown(item) for item in value)
    return str(value)


def stages_table(card: RunCard) -> Table:
    """What was made, from what, in what time."""
    rows = [[stage.name, stage.output, format_seconds(stage.seconds), in_short(stage)] for stage in card.stages]
    return Table(
        title="What was made", columns=["stage", "makes", "time", "in short"], rows=[*rows, ["all", "", format_seconds(card.seconds), ""]], numeric=False
    )


def in_short(stage: StageCard) -> str:
    """Return the small numbers of a stage as one line."""
    return ", ".join(named(name, value) for name, value in stage.summary.items() if isinstance(value, int | float | str))


def named(name: str, value: float | str) -> str:
    """Write a number of a summary with its name; `_bytes` at the end of the name is the unit."""
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{words(name.removesuffix('_bytes'))} {format_bytes(value)}"
    return f"{words(name)} {shown(value)}"


def questions_table(card: RunCard) -> Table | None:
    """Checkable questions that no training saw: one row for each group, one column for each model."""
    groups = _keys(card.scores, "questions")
    if not groups:
        return None
    rows = []
    for group in groups:
        held = [scores.get("questions", {}).get(group) for scores in card.scores.values()]
        rows.append([words(group), next(f"{score['total']:,}" for score in held if score), *(_accuracy(score) for score in held)])
    note = " ".join(["Share of answers that a program found right, with its 95 % interval.", *map(_examples_note, card.scores, card.scores.values())]).strip()
    return Table(title="Questions never seen in training", columns=["group", "asked", *card.scores], rows=rows, note=note)


def _examples_note(label: str, scores: Row) -> str:
    """Say how many examples stood before the questions of a model that was asked in plain text: with none, 0 % says little of what it knows."""
    examples = scores.get("examples", {})
    if "mean" not in examples:
        return ""
    mean, given = f"{examples['mean']:.1f}", f"{examples['given']} example{'s' if examples['given'] != 1 else ''}"
    return f"{label} is a base model, asked in plain text; of {given} its context held {mean} before a question on average, at least {examples['min']}."


def bits_table(card: RunCard) -> Table | None:
    """Bits per byte of held-out text: one row for each source, one column for each model, and a general-purpose compressor beside."""
    sources = _keys(card.scores, "bits_per_byte")
    if not sources:
        return None
    rows = []
    for source in sources:
        held = [scores.get("bits_per_byte", {}).get(source) for scores in card.scores.values()]
        compressed = next((score["xz"] for score in held if score and score.get("xz")), None)
        rows.append(
            [words(source), *("-" if score is None else f"{score['bits_per_byte']:.3f}" for score in held), "-" if compressed is None else f"{compressed:.3f}"]
        )
    note = "Fewer is better. xz is 'xz -9 -e' on the same held-out text: a model that needs fewer bits has learned more of it than repetition."
    return Table(title="Held-out text, bits per byte", columns=["source", *card.scores, "xz"], rows=rows, note=note)


def mixture_table(stage: StageCard) -> Table | None:
    """Proportions of the sources as asked, planned under the cap, and drawn."""
    if not stage.mixture:
        return None
    rows = [
        [
            str(row["source"]) + (" (capped)" if row.get("capped") else ""),
            *(f"{row[part]:.1%}" if part in row else "-" for part in ("asked", "planned", "drawn")),
            format_count(row.get("drawn_tokens", 0)),
            f"{row.get('drawn_epochs', 0):.2f}",
        ]
        for row in stage.mixture
    ]
    return Table(title=f"Data mix of {stage.name}", columns=["source", "asked", "planned", "drawn", "tokens drawn", "epochs"], rows=rows)


def ledger_table(stage: StageCard) -> Table | None:
    """What became of every row that a stage read."""
    num_read = stage.ledger.get("rows_in", 0)
    rows = [["rows read", f"{num_read:,}", ""], ["kept", f"{stage.ledger.get('kept', 0):,}", ""]] if num_read else []
    rows += [[f"set aside: {reason}", f"{entry['count']:,}", "; ".join(entry.get("examples", ())[:1])] for reason, entry in stage.dropped.items()]
    counts = stage.ledger.get("counts", {})
    rows += [[words(name), shown(value), ""] for name, value in counts.items() if isinstance(value, int | float | str)]
    return Table(title=stage.name, columns=["what", "count", "for example"], rows=rows, numeric=False) if rows else None


def settings_table(stage: StageCard) -> Table | None:
    """Every setting of a stage that can change its result."""
    rows = [[name, shown(value)] for name, value in flat(stage.settings)]
    return Table(title=f"{stage.name} ({stage.kind})", columns=["setting", "value"], rows=rows, numeric=False) if rows else None


def flat(settings: Row, path: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as (dotted name, value)."""
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        found += flat(value, f"{path}{name}.") if isinstance(value, Mapping) and value else [(f"{path}{name}", value)]
    return found


def _keys(scores: Mapping[str, Row], part: str) -> list[str]:
    return list(dict.fromkeys(key for model in scores.values() for key in model.get(part, {})))


def _accuracy(score: Row | None) -> str:
    return "-" if score is None else f"{score['accuracy']:.0%} ({100 * score['low']:.0f}-{score['high']:.0%})"
