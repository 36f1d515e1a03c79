"""What a mix of dialogs is made of, before and after a selection: by topic (Llama 3, table 7), and by topic x quality x difficulty (Llama 3, section 4.2.3).

Reads labels as `stages.select_dialogs` makes them; a label that is missing has a level of its own, so every dialog is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
BEFORE, AFTER, TALLY = "mix before", "mix", "mix by quality and difficulty"
"""What these tables are called among the counts of a ledger."""
MENDED, OVERUSED_READ, OVERUSED_KEPT = "dialogs mended", "with an overused phrase, of those read", "with an overused phrase, of those kept"
"""What the counts of the rules are called there."""
QUALITIES = ("reward and judge", "reward alone", "judge alone", "neither", "not labelled")
"""Who calls a dialog good."""
DIFFICULTIES = ("easy", "medium", "hard", "not graded")


def mix_table(labels: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return for each topic, and for all, the share of dialogs and the means of turns and tokens, in all, of context and of last answers (Llama 3, table 7)."""
    topics = dict.fromkeys(label["topic"] for label in labels)
    groups = {topic: [label for label in labels if label["topic"] == topic] for topic in topics}
    rows = []
    for topic, members in (groups | {"all": list(labels)}).items():
        row: Row = {"topic": topic, "dialogs": len(members), "share": round(len(members) / max(1, len(labels)), 4)}
        sums = {name: sum(label[name] for label in members) for name in ("turns", "tokens", "context_tokens")}
        means = {name: round(total / max(1, len(members)), 1) for name, total in sums.items()}
        rows.append({**row, **means, "answer_tokens": round((sums["tokens"] - sums["context_tokens"]) / max(1, len(members)), 1)})
    return rows


def mix_tally(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each topic, quality and difficulty that is there, with the dialogs before and after; topics as they come, levels in their order."""
    counts = [Counter((label["topic"], quality(label), difficulty(label)) for label in labels) for labels in (before, after)]
    topics = dict.fromkeys(label["topic"] for label in before)
    cells = ((topic, good, hard) for topic in topics for good in QUALITIES for hard in DIFFICULTIES)
    names = ("topic", "quality", "difficulty")
    return [{**dict(zip(names, cell, strict=True)), "before": counts[0][cell], "after": counts[1][cell]} for cell in cells if counts[0][cell]]


def quality(label: Mapping[str, Any]) -> str:
    """Return who calls a dialog good."""
    if "good_by" not in label or not {"reward", "quality"} & set(label):
        return "not labelled"
    return {("reward", "judge"): "reward and judge", ("reward",): "reward alone", ("judge",): "judge alone"}.get(tuple(label["good_by"]), "neither")


def difficulty(label: Mapping[str, Any]) -> str:
    """Return the judge's grade of difficulty in words."""
    grade = label.get("difficulty")
    return "not graded" if grade is None else DIFFICULTIES[grade - 1]
