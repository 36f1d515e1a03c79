"""The report of a judgement: every part there, every number that of its results, the warning where nobody can miss it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from herdling.evals.preference import JudgedAnswer, goodhart_lines, judgement
from herdling.report.card import RunCard, StageCard, read_run
from herdling.report.chart import Spot, frontier_chart
from herdling.report.judgement import judgement_section
from herdling.report.page import html_page, markdown_page
from tests.made_judgement import make_judgement


@pytest.fixture
def card(tmp_path: Path) -> RunCard:
    return read_run(make_judgement(tmp_path), title="rounds")


@pytest.fixture
def stage(card: RunCard) -> StageCard:
    return card.stages[0]


def test_the_section_has_every_part_and_the_page_nests_it(card: RunCard, stage: StageCard) -> None:
    section = judgement_section(stage)
    assert [one.title for one in section.tables] == ["Models on held-out prompts", "Later models over earlier ones", "Safety", "Skills"]
    assert [chart.title for chart in section.charts] == ["KL-reward frontier", "Win rates"]
    page = html_page(card)
    assert page.count("<section") == page.count("</section>")
    assert '<section id="judgements">' in page
    assert "v1 &lt;b&gt;" in page
    assert "v1 <b>" not in page


def test_the_goodhart_warning_stands_first_on_both_pages(card: RunCard, stage: StageCard) -> None:
    section = judgement_section(stage)
    assert section.warnings == tuple(stage.judgement["goodhart"]["lines"])
    assert any("from ppo to ppo, no KL penalty the reward trained for rose by" in line for line in section.warnings)
    page = html_page(card)
    assert 0 < page.index('class="warning"') < page.index("Models on held-out prompts" if "Models on held-out prompts" in page else "<table")
    assert "Goodhart watch: WARNING" in markdown_page(card)


def test_tables_show_the_numbers_of_the_results(stage: StageCard) -> None:
    results: Any = stage.judgement
    models, wins, safety, skills = judgement_section(stage).tables
    assert [row[0] for row in models.rows] == list(results["models"])
    gold = results["models"]["v2"]["rewards"]["gold"]
    assert f"{gold['mean']:.2f} ({gold['low']:.2f} to {gold['high']:.2f})" in models.rows[2]
    assert len(wins.rows) == 10
    last, row = results["comparisons"][-1], wins.rows[-1]
    assert row[0] == "ppo, no KL penalty over ppo"
    assert row[1].startswith(f"{last['win_rates']['reward']['rate']:.1%} (")
    assert row[-1] == "format"
    assert safety.columns == ["model", "violations", "of", "false refusals", "of", "called unsafe", "of", "mean safety reward", "mean helpfulness reward"]
    assert safety.rows[0][1].startswith(f"{results['models']['sft']['violations']['share']:.1%} (")
    assert [row[0] for row in skills.rows] == ["validation dialogs", "new wording", "format", "refusal"]


def test_a_judgement_by_models_alone_shows_only_what_is_known() -> None:
    rows = [
        JudgedAnswer(
            id=f"{n}", skill="x", group="harmless", question="q", answer=f"{n}", stop_reason="end_of_turn", num_tokens=1, kl=0.0, rewards={"reward": n}
        )
        for n in (0.0, 1.0)
    ]
    results = judgement({"old": rows, "new": rows})
    results["goodhart"]["lines"] = goodhart_lines(results["goodhart"])
    values: dict[str, Any] = {"name": "j", "kind": "judge", "output": "judgement", "fingerprint": "", "seconds": 0.0}
    section = judgement_section(StageCard(**values, settings={}, summary={}, parents={}, judgement=results))
    assert [one.title for one in section.tables] == ["Models on held-out prompts", "Later models over earlier ones"]
    assert section.notes == ("Goodhart watch: nobody watches. Name a reward model that no training learns from (watch)",)
    assert section.warnings == ()


def test_the_markdown_has_the_same_tables(card: RunCard, stage: StageCard) -> None:
    text = markdown_page(card)
    for one in judgement_section(stage).tables:
        assert f"## judge: {one.title}" in text


def test_a_run_without_judgements_has_no_section(made_run: list[Any]) -> None:
    assert 'id="judgements"' not in html_page(read_run(made_run, title="x"))


def test_spots_of_the_frontier_stand_where_their_numbers_are() -> None:
    spots = [Spot(label="a", x=(0.0, 0.0, 0.0), y=(1.0, 1.0, 1.0)), Spot(label="b", x=(9.0, 16.0, 16.0), y=(2.0, 3.0, 3.0), series=1)]
    svg = ET.fromstring(frontier_chart(spots, "t", "x", "y"))
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in svg.iter("circle")]
    grid = [line for line in svg.iter("line") if line.get("class") == "grid"]
    # The axes go from 0 to 16 by the root, and from 1 to 3: the first dot is the lower left corner, the second the upper right.
    left, right = float(grid[0].get("x1", "")), float(grid[0].get("x2", ""))
    lowest, highest = float(grid[0].get("y1", "")), float(grid[-1].get("y1", ""))
    assert dots == [pytest.approx((left, lowest), abs=0.1), pytest.approx((right, highest), abs=0.1)]
    whiskers = [line for line in svg.iter("line") if (line.get("class") or "").startswith("whisker colour-1")]
    assert float(whiskers[0].get("x1", "")) == pytest.approx(left + 0.75 * (right - left), abs=0.1)  # 3 of 4
    assert float(whiskers[1].get("y1", "")) == pytest.approx((lowest + highest) / 2, abs=0.1)


def test_names_of_spots_that_lie_together_do_not_cover_each_other() -> None:
    spots = [Spot(label=f"model {number}", x=(1.0, 1.0, 1.0), y=(2.0, 2.0, 2.0), series=number) for number in range(3)]
    svg = ET.fromstring(frontier_chart([*spots, Spot(label="far", x=(2.0, 2.0, 2.0), y=(4.0, 4.0, 4.0))], "t", "x", "y"))
    heights = sorted(float(text.get("y", "")) for text in svg.iter("text") if (text.text or "").startswith("model"))
    assert all(after - before >= 10.9 for before, after in pairwise(heights))
