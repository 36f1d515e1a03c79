"""The report of a selection: every dialog read stands in each table, topics are escaped, what is gone is gone by name."""

from __future__ import annotations

from typing import Any

from herdling.report.card import RunCard, StageCard
from herdling.report.page import html_page, markdown_page
from herdling.report.selection import has_selection, selection_section

SIZES = {"turns": 1.5, "tokens": 1200.0, "context_tokens": 900.0, "answer_tokens": 300.0}
COUNTS: dict[str, Any] = {
    "with an overused phrase, of those read": 4,
    "with an overused phrase, of those kept": 1,
    "mix before": [
        {"topic": "code <b>", "dialogs": 6, "share": 0.6, **SIZES},
        {"topic": "maths", "dialogs": 4, "share": 0.4, **SIZES},
        {"topic": "all", "dialogs": 10, "share": 1.0, **SIZES},
    ],
    "mix": [{"topic": "code <b>", "dialogs": 2, "share": 1.0, **SIZES}, {"topic": "all", "dialogs": 2, "share": 1.0, **SIZES}],
    "mix by quality and difficulty": [
        {"topic": "code <b>", "quality": "reward alone", "difficulty": "easy", "before": 2, "after": 1},
        {"topic": "code <b>", "quality": "reward alone", "difficulty": "hard", "before": 1, "after": 1},
        {"topic": "code <b>", "quality": "neither", "difficulty": "easy", "before": 3, "after": 0},
        {"topic": "maths", "quality": "neither", "difficulty": "easy", "before": 4, "after": 0},
    ],
}


def stage(counts: dict[str, Any]) -> StageCard:
    dropped = {"too many emoji in an answer": {"count": 1, "examples": ["7"]}, "nearly the same as a better one": {"count": 7, "examples": []}}
    ledger = {"stage": "select", "rows_in": 10, "kept": 2, "dropped": dropped, "counts": counts}
    made: dict[str, Any] = {
        "name": "select",
        "kind": "select_dialogs",
        "output": "samples",
        "fingerprint": "f" * 64,
        "seconds": 1.0,
        "settings": {},
        "summary": {},
    }
    return StageCard(**made, parents={}, ledger=ledger)


def test_the_tables_say_what_was_and_what_is() -> None:
    mix, tally, why = selection_section(stage(COUNTS)).tables
    assert mix.rows[0] == ["code <b>", "6", "2", "60.0%", "100.0%", "1.5", "1,200.0", "900.0", "300.0"]
    assert mix.rows[1] == ["maths", "4", "0", "40.0%", "0.0%", "-", "-", "-", "-"]
    assert why.rows == [
        ["too many emoji in an answer", "1", "10", "10.0%"],
        ["nearly the same as a better one", "7", "10", "70.0%"],
        ["kept", "2", "10", "20.0%"],
        ["with an overused phrase, of those read", "4", "10", "40.0%"],
        ["with an overused phrase, of those kept", "1", "2", "50.0%"],
    ]
    assert tally.columns == ["topic, called good by", "easy", "hard", "all"]
    assert tally.rows == [
        ["code <b>, reward alone", "2 → 1", "1 → 1", "3 → 2"],
        ["code <b>, neither", "3 → 0", "-", "3 → 0"],
        ["maths, neither", "4 → 0", "-", "4 → 0"],
    ]


def test_page_and_markdown_show_it_and_a_stage_that_selects_nothing_has_no_section() -> None:
    card = RunCard(title="t", description="", seed=1, stages=(stage(COUNTS), stage({})), scores={}, answers=(), machine={}, code={}, finished="")
    page = html_page(card)
    assert page.count("What the mix has become") == 0  # the first table stands below the stage's name, without a title
    assert page.count("Topic x quality x difficulty") == 1
    assert "code &lt;b&gt;, reward alone" in page
    assert "## select: What the mix has become" in markdown_page(card)
    assert not has_selection(stage({}))
