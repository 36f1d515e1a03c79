"""The report of PPO: every number that of the curve, the best look marked, a line for what was measured and none for what was not."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from herdling.report.card import RunCard, StageCard
from herdling.report.page import html_page, markdown_page
from herdling.report.ppo import ppo_section


def row(iteration: int, reward: float | None, **further: Any) -> dict[str, Any]:
    rewards = {"reward": reward, "helpfulness": reward, "safety": None}
    return {"iteration": iteration, **rewards, "kl": iteration / 2, "length": 7.25, "without_end": 3, "not_judged": 1, **further}


def iteration(number: int) -> dict[str, Any]:
    return row(number, 1.0 + number, beta=0.01, entropy=2.0 - number / 10, explained_variance=number / 10 - 0.1, drift=1e-7 * (number + 1))


ROWS = [iteration(number) for number in range(4)]
LOOKS = [row(0, 1.0), row(2, 3.0), row(4, 3.0)]
STEPS = [{"split": "train", "step": step, "loss": 0.1, "lr": 1e-6, "clip_fraction": step / 10, "value_clip_fraction": 0.5} for step in range(8)]


def stage(rows: list[dict[str, Any]], looks: list[dict[str, Any]]) -> StageCard:
    made: dict[str, Any] = {"name": "p", "kind": "ppo", "output": "model", "fingerprint": "f" * 64, "seconds": 1.0, "settings": {}, "summary": {}}
    return StageCard(**made, parents={}, metrics=STEPS, ppo={"iterations": rows, "held_out": looks})


def test_the_first_of_equal_looks_is_the_best_as_the_stage_keeps_it() -> None:
    looks, learned = ppo_section(stage(ROWS, LOOKS)).tables
    assert looks.columns == ["before iteration", "reward", "KL, nats", "tokens", "did not end", "not judged"]
    assert [line[0] for line in looks.rows] == ["0", "2 (best)", "4"]
    assert looks.rows[1][1:] == ["3.000", "1.000", "7.2", "3", "1"]
    assert learned.rows[0] == ["reward, logits", "1.000", "4.000", "1.000", "4.000"]
    assert learned.rows[-1] == ["drift, nats a token", "1.00e-07", "4.00e-07", "1.00e-07", "4.00e-07"]


def test_with_a_safety_model_both_parts_stand_beside_the_reward() -> None:
    looks = ppo_section(stage(ROWS, [row(0, 1.0, safety=-0.5), row(2, None)])).tables[0]
    assert looks.columns[1:4] == ["reward", "helpfulness", "safety"]
    assert [line[1:4] for line in looks.rows] == [["1.000", "1.000", "-0.500"], ["-", "-", "-"]]
    assert looks.rows[0][0] == "0 (best)"


def test_pictures_have_a_line_for_each_curve_with_two_points() -> None:
    charts = {chart.title: chart for chart in ppo_section(stage(ROWS, LOOKS)).charts}
    assert list(charts) == ["Learned reward", "Distance from the reference", "Clipped", "Explained variance of the returns", "Length of the answers"]
    lines = {title: str(chart.picture).count("<polyline") for title, chart in charts.items()}
    assert list(lines.values()) == [2, 2, 2, 1, 2]
    (policy, _) = (line for line in ET.fromstring(str(charts["Clipped"].picture)).iter("polyline"))
    assert len(policy.get("points", "").split()) == 4  # two steps an iteration


def test_without_held_out_prompts_the_answers_learned_from_are_all_there_is() -> None:
    section = ppo_section(stage(ROWS, []))
    assert [table.title for table in section.tables] == ["Answers learned from"]
    assert section.charts[0].labels == ()
    assert [chart.title for chart in ppo_section(stage(ROWS[:1], [])).charts] == []


def test_page_and_markdown_show_the_section_and_say_whose_reward_it_is() -> None:
    card = RunCard(title="t", description="", seed=1, stages=(stage(ROWS, LOOKS),), scores={}, answers=(), machine={}, code={}, finished="")
    page, text = html_page(card), markdown_page(card)
    assert '<section id="ppo">' in page
    assert "policy and value loss" in page
    assert "nats per token" not in page
    assert "## p: Held-out prompts" in text
    assert "not that answers are better" in text
