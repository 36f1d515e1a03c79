"""The report of a retention stage: every share as it was counted, both ways of asking, and what the context could not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from herdling.base.artifact import new_manifest, read_artifact, write_json_atomic
from herdling.report.card import RunCard, read_run
from herdling.report.page import html_page, markdown_page
from herdling.report.retention import retention_section


def cell(obeyed: int, total: int, beyond: int = 0) -> dict[str, Any]:
    share = obeyed / total if total else None
    not_counted = {"longer than the context": beyond} if beyond else {}
    return {"obeyed": obeyed, "total": total, "share": share, "low": 0.25, "high": 0.75, "not_counted": not_counted}


RESULTS = {
    "turns": [2, 20],
    "models": {
        "without": {"trained": {"once": {"2": cell(5, 50), "20": cell(0, 0, 50)}, "reminded": {"2": cell(49, 50), "20": cell(0, 0, 50)}}},
        "with <b>": {
            "trained": {"once": {"2": cell(50, 50), "20": cell(9, 10, 40)}, "reminded": {"2": cell(50, 50), "20": cell(10, 10, 40)}},
            "new": {"once": {"2": cell(7, 10), "20": cell(0, 0)}, "reminded": {"2": cell(8, 10), "20": cell(0, 0)}},
        },
    },
    "by_constraint": {"without": {"form: loud": {"2": [5, 50]}}, "with <b>": {"form: loud": {"2": [50, 50], "20": [9, 10]}, "form: shy": {"2": [7, 10]}}},
}


@pytest.fixture
def card(tmp_path: Path) -> RunCard:
    folder = tmp_path / "run" / "retention"
    folder.mkdir(parents=True)
    write_json_atomic(folder / "results.json", RESULTS)
    made_from = {"kind": "retention", "settings": {}, "inputs": {}, "seed": 1, "outside": {}}
    manifest = new_manifest(
        folder, name="retention", output="retention", made_from=made_from, parents={}, summary={}, seconds=1.0, tokenizer="", chat_template=""
    )
    write_json_atomic(folder / "manifest.json", manifest)
    return read_run([read_artifact(folder)], title="x")


def test_the_tables_say_what_was_counted(card: RunCard) -> None:
    trained, new, single = retention_section(card.stages[0]).tables
    assert trained.rows == [
        ["without, once", "10.0% (25.0-75.0) of 50", "beyond the context"],
        ["without, reminded", "98.0% (25.0-75.0) of 50", "beyond the context"],
        ["with <b>, once", "100.0% (25.0-75.0) of 50", "90.0% (25.0-75.0) of 10, 40 beyond the context"],
        ["with <b>, reminded", "100.0% (25.0-75.0) of 50", "100.0% (25.0-75.0) of 10, 40 beyond the context"],
    ]
    assert "Once: it stands in the first message only" in trained.note
    assert new.rows == [["with <b>, once", "70.0% (25.0-75.0) of 10", "-"], ["with <b>, reminded", "80.0% (25.0-75.0) of 10", "-"]]
    assert single.columns == ["constraint", "without, turn 2", "without, turn 20", "with <b>, turn 2", "with <b>, turn 20"]
    assert single.rows == [["form: loud", "5 of 50", "-", "50 of 50", "9 of 10"], ["form: shy", "-", "-", "7 of 10", "-"]]


def test_there_is_a_picture_for_each_part_with_a_dot_for_each_share_that_was_counted(card: RunCard) -> None:
    trained, new = retention_section(card.stages[0]).charts
    assert trained.picture.count("<circle") == 3
    assert new.picture.count("<circle") == 1
    assert trained.labels == ("without", "with <b>")


def test_the_page_and_its_markdown_hold_the_section_and_escape_labels(card: RunCard) -> None:
    page = html_page(card)
    assert '<section id="retention">' in page
    assert "with &lt;b&gt;, once" in page
    assert "<b>, once" not in page
    assert "Instruction kept, constraints of training" in markdown_page(card)
