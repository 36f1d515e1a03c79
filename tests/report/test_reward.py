"""The report of a reward model: every part there, every number the one of its results, nothing claimed that is not known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from herdling.evals.reward import ScoredComparison, report_card
from herdling.report.card import RunCard, StageCard, read_run
from herdling.report.chart import Interval, calibration_chart, histogram_chart
from herdling.report.curves import stage_charts
from herdling.report.page import html_page, markdown_page
from herdling.report.reward import reward_section
from tests.data.toy_preferences import pair
from tests.made_reward import make_reward


@pytest.fixture
def card(tmp_path: Path) -> RunCard:
    return read_run(make_reward(tmp_path), title="rewards")


@pytest.fixture
def stage(card: RunCard) -> StageCard:
    return card.stages[0]


def table(stage: StageCard, title: str) -> list[list[str]]:
    found = next(one for one in reward_section(stage).tables if title in one.title)
    return [list(row) for row in found.rows]


def test_the_section_has_every_part_and_the_page_nests_it(card: RunCard) -> None:
    section = reward_section(card.stages[0])
    assert [one.title for one in section.tables] == [
        "Accuracy on held-out comparisons",
        "Accuracy: how much better the chosen one is",
        "Accuracy: turn of the dialogue",
        "Accuracy: length of the chosen response beside the rejected one",
        "Accuracy of each set by rating",
        "Safety",
        "Position",
        "Scores and calibration",
        "Comparisons trained on",
    ]
    assert [chart.title for chart in section.charts][-2:] == ["Calibration", "Scores"]
    page = html_page(card)
    assert page.count("<section") == page.count("</section>")
    assert '<section id="rewards">' in page
    assert "helpful &lt;b&gt;" in page
    assert "<b>&gt;" not in page


def test_tables_show_the_numbers_of_the_results(stage: StageCard) -> None:
    whole: Any = stage.reward["all"]
    (first, *_) = table(stage, "held-out")
    assert first[:2] == ["all", "900"]
    assert first[2].startswith(f"{100 * whole['accuracy']['accuracy']:.1f}% (")
    assert first[3] == f"{100 * whole['accuracy']['length_baseline']:.1f}% ({whole['accuracy']['length_direction']})"
    assert first[5].endswith(f"/ {100 * whole['limit']['expected']:.1f}%")
    assert [row[0] for row in table(stage, "how much better")] == ["significantly better", "better", "slightly better", "negligibly better"]
    assert [row[0] for row in table(stage, "by rating")] == ["helpful <b>", "safety"]
    assert table(stage, "trained on")[1] == ["safety", "side", "400", "700", "400"]
    assert {row[0] for row in table(stage, "Safety")} >= {"recall of safe responses", "recall of unsafe responses", "accuracy, both safe"}


def test_a_simulated_annotator_and_a_margin_are_named(card: RunCard, stage: StageCard) -> None:
    for text in (html_page(card), markdown_page(card)):
        assert "All 900 test comparisons were judged by a simulated annotator" in text
        assert re.search(r"Trained with a margin: .* is not a probability", text)
    plain = replace(stage, settings={"objective": "llama2", "margin": "none"}, reward={**stage.reward, "all": {**stage.reward["all"], "simulated": 0}})
    assert reward_section(plain).notes == ()
    assert reward_section(replace(plain, settings={"objective": "llama3"})).notes == ()
    # Unset is Llama 2's small table.
    assert len(reward_section(replace(plain, settings={"objective": "llama2", "margin": None})).notes) == 1


def test_pairs_that_reward_models_judged_are_not_a_simulated_annotator_s(stage: StageCard) -> None:
    made = ScoredComparison(pair(simulated=True, annotator="reward model", metadata={"sides_known": False}), (1.0, 0.0), "best of K")
    person = ScoredComparison(pair(metadata={"sides_known": False}), (1.0, 0.0), "best of K")
    settings = {"objective": "llama3"}
    notes = reward_section(replace(stage, settings=settings, reward=report_card([made, made]))).notes
    assert [note.split(":")[0] for note in notes] == ["All 2 test comparisons were judged by the reward models that chose among samples"]
    notes = reward_section(replace(stage, settings=settings, reward=report_card([made, person]))).notes
    assert notes[0].startswith("1 of the 2 test comparisons were judged by the reward models")


def test_a_model_of_one_plain_set_shows_only_what_is_known(stage: StageCard) -> None:
    one = ScoredComparison(pair(metadata={"sides_known": False}), (1.0, 0.0), "hh")
    section = reward_section(replace(stage, reward=report_card([one]), ledger={}))
    assert [table.title.split(":")[0] for table in section.tables] == ["Accuracy on held-out comparisons", "Accuracy", "Accuracy", "Scores and calibration"]
    assert section.tables[0].columns[-1] == "lead"
    assert [row[0] for row in section.tables[0].rows] == ["all"]
    assert [chart.title for chart in section.charts] == ["Calibration", "Scores"]


def test_the_markdown_has_the_same_tables(card: RunCard, stage: StageCard) -> None:
    text = markdown_page(card)
    for one in reward_section(stage).tables:
        assert f"## reward: {one.title}" in text
        for row in one.rows:
            assert row[1] in text


def test_a_run_without_reward_models_has_no_section(made_run: list[Any]) -> None:
    card = read_run(made_run, title="x")
    assert 'id="rewards"' not in html_page(card)


def test_training_of_a_reward_model_is_drawn_by_pairs(stage: StageCard) -> None:
    rows = [{"split": "train", "step": step, "tokens": step * 10, "loss": 0.7, "accuracy": 0.5, "lr": 1e-3, "tokens_per_second": 5.0} for step in (1, 2)]
    charts = stage_charts(replace(stage, metrics=rows))
    assert [(chart.title, chart.y_unit) for chart in charts[:2]] == [("Training loss", "nats per pair"), ("Accuracy in training", "share of pairs")]


def test_calibration_dots_stand_where_claim_and_observation_meet() -> None:
    svg = ET.fromstring(calibration_chart([(0.75, Interval(label="8 pairs", value=0.75, low=0.5, high=1.0))], "t", "x", "y"))
    line = next(one for one in svg.iter("line") if one.get("class") == "agreement")
    dot = next(svg.iter("circle"))
    # Half way along the dashed line, for the line goes from (50 %, 50 %) to (100 %, 100 %).
    for axis, ends in (("cx", ("x1", "x2")), ("cy", ("y1", "y2"))):
        assert float(dot.get(axis, "")) == pytest.approx(sum(float(line.get(end, "")) for end in ends) / 2, abs=0.1)


def test_histograms_keep_their_heights_in_proportion() -> None:
    svg = ET.fromstring(histogram_chart([0.0, 1.0, 2.0], [[2, 4], [1, 0]], "t", "score"))
    first, second = ([float(point.split(",")[1]) for point in one.get("points", "").split()] for one in svg.iter("polygon"))
    ground = first[0]
    assert ground - first[1] == pytest.approx((ground - first[3]) / 2, abs=0.1)
    assert ground - second[1] == pytest.approx((ground - first[3]) / 4, abs=0.1)
    assert histogram_chart([1.0] * 3, [[1, 0]], "t", "score")


def test_results_are_read_as_they_were_written(card: RunCard, tmp_path: Path) -> None:
    assert card.stages[0].reward == json.loads((tmp_path / "rewards" / "reward" / "results.json").read_text())
