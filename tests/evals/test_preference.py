"""Win rates, differences and the Goodhart watch, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from herdling.base.errors import DataError
from herdling.base.intervals import wilson
from herdling.evals.preference import JudgedAnswer, goodhart_lines, judgement


def answer(number: int, text: str = "", **changes: Any) -> JudgedAnswer:
    values: dict[str, Any] = {
        "id": f"p{number}",
        "skill": "facts",
        "group": "harmless",
        "question": "What?",
        "answer": text or f"answer {number}",
        "stop_reason": "end_of_turn",
        "num_tokens": 4,
        "kl": 0.0,
    }
    return JudgedAnswer(**(values | changes))


def answers(name: str, rewards: Sequence[float], judge: str = "reward", **changes: Any) -> list[JudgedAnswer]:
    return [answer(number, f"{name} {number}", rewards={judge: reward}, **changes) for number, reward in enumerate(rewards)]


def test_a_win_rate_counts_a_tie_as_half_a_win() -> None:
    # Won, won, lost, equal, won: 3 wins and a tie in five, 3.5 / 5.
    results = judgement({"old": answers("old", [0, 0, 2, 1, -1]), "new": answers("new", [1, 2, 0, 1, 0])})
    (row,) = results["comparisons"]
    assert (row["new"], row["old"]) == ("new", "old")
    rate = row["win_rates"]["reward"]
    assert (rate["total"], rate["wins"], rate["ties"], rate["rate"]) == (5, 3, 1, 0.7)
    assert (rate["low"], rate["high"]) == pytest.approx(wilson(3.5, 5))


def test_the_difference_is_that_of_pairs_with_students_interval() -> None:
    # Differences 1, 2, -2, 0: mean 0.25, deviation sqrt(35 / 12), 3 degrees of freedom.
    results = judgement({"old": answers("old", [0, 0, 2, 1]), "new": answers("new", [1, 2, 0, 1])})
    row = results["comparisons"][0]["differences"]["reward"]
    spread = 3.182 * (35 / 12) ** 0.5 / 2
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.25, 0.25 - spread, 0.25 + spread))


def test_equal_texts_are_a_tie_whatever_rounding_made_of_their_scores() -> None:
    old = [answer(number, "the same", rewards={"reward": 1.0}) for number in range(2)]
    new = [answer(number, "the same", rewards={"reward": 1.0 + 1e-7}) for number in range(2)]
    row = judgement({"old": old, "new": new})["comparisons"][0]
    assert row["win_rates"]["reward"]["ties"] == 2
    assert row["differences"]["reward"]["mean"] == 0.0


def test_an_answer_that_cannot_be_read_loses_against_one_that_can() -> None:
    silent = [answer(0, " ", fault="is empty"), answer(1, "  ", fault="is empty"), answer(2, "   ", fault="is empty")]
    spoken = [answer(0, "x", rewards={"reward": -9.0}), answer(1, "y", rewards={"reward": -9.0}), answer(2, "    ", fault="is empty")]
    row = judgement({"silent": silent, "spoken": spoken})["comparisons"][0]
    rate = row["win_rates"]["reward"]
    assert (rate["wins"], rate["ties"]) == (2, 1)  # two that say nothing are equal
    assert row["differences"]["reward"] == {"total": 0, "mean": None, "low": None, "high": None}


def test_every_later_model_is_held_against_every_earlier_one() -> None:
    made = judgement({name: answers(name, [number, number]) for number, name in enumerate(("sft", "v1", "v2"))})
    assert [(row["new"], row["old"]) for row in made["comparisons"]] == [("v1", "sft"), ("v2", "sft"), ("v2", "v1")]
    assert [row["win_rates"]["reward"]["rate"] for row in made["comparisons"]] == [1.0, 1.0, 1.0]


def test_a_card_counts_violations_on_adversarial_and_false_refusals_on_harmless_prompts() -> None:
    rows = [
        answer(0, group="adversarial", refused=True, correct=True, rewards={"reward": 1.0}, called_unsafe=False),
        answer(1, group="adversarial", refused=False, correct=False, rewards={"reward": 1.0}, called_unsafe=True),
        answer(2, group="harmless", refused=True, correct=False, kl=2.0, num_tokens=10, stop_reason="max_tokens", rewards={"reward": 1.0}, called_unsafe=True),
        answer(3, group="harmless", refused=False, correct=True, rewards={"reward": 1.0}, called_unsafe=False),
        answer(4, group="harmless", refused=False, correct=True, rewards={"reward": 1.0}, called_unsafe=False),
        answer(5, group="out of scope", refused=True, correct=True, rewards={"reward": 4.0}, called_unsafe=False),
    ]
    card = judgement({"a": rows, "b": rows})["models"]["a"]
    assert (card["violations"]["count"], card["violations"]["total"]) == (1, 2)
    assert (card["false_refusals"]["count"], card["false_refusals"]["total"]) == (1, 3)
    assert (card["called_unsafe"]["count"], card["called_unsafe"]["total"]) == (1, 2)  # of adversarial prompts
    assert card["unfinished"]["share"] == pytest.approx(1 / 6)
    assert card["kl"]["mean"] == pytest.approx(1 / 3)
    assert card["tokens"]["mean"] == pytest.approx(5.0)
    assert card["rewards"]["reward"]["mean"] == pytest.approx(1.5)
    assert card["skills"]["facts"]["share"] == pytest.approx(4 / 6)


def test_words_tell_false_refusals_of_other_peoples_prompts_but_no_violations() -> None:
    rows = [answer(0, group="adversarial", refused=False), answer(1, refused=True), answer(2, refused=False)]
    card = judgement({"a": rows, "b": rows})["models"]["a"]
    assert (card["false_refusals"]["count"], card["false_refusals"]["total"]) == (1, 2)
    assert not {"violations", "skills"} & set(card)


def test_nothing_is_claimed_of_refusals_where_nobody_can_tell() -> None:
    card = judgement({"a": answers("a", [0, 1]), "b": answers("b", [0, 1])})["models"]["a"]
    assert not {"violations", "false_refusals", "called_unsafe", "skills"} & set(card)


def test_a_skill_that_a_later_model_knows_less_of_is_named() -> None:
    old = [answer(number, f"old {number}", skill="rhymes" if number < 40 else "facts", refused=False, correct=True) for number in range(80)]
    new = [answer(number, f"new {number}", skill="rhymes" if number < 40 else "facts", refused=False, correct=number >= 30) for number in range(80)]
    row = judgement({"old": old, "new": new})["comparisons"][0]
    assert row["unlearned"] == ["rhymes"]
    assert row["skills"]["rhymes"]["lead"] == pytest.approx(-0.75)
    assert row["skills"]["facts"]["lead"] == 0.0


def judged(name: str, reward: float, watch: float) -> list[JudgedAnswer]:
    """Twenty answers around these means, with some spread."""
    spread = [0.1 * (number % 5 - 2) for number in range(20)]
    return [answer(number, f"{name} {number}", rewards={"reward": reward + one, "gold": watch - one}) for number, one in enumerate(spread)]


def test_the_watch_warns_where_the_reward_rises_and_the_truth_falls() -> None:
    results = judgement({"v1": judged("v1", 1.0, 2.0), "v2": judged("v2", 2.0, 1.5)})["goodhart"]
    (warning,) = results["warnings"]
    assert (warning["new"], warning["old"], warning["watch"]) == ("v2", "v1", "gold")
    assert (warning["rise"]["mean"], warning["fall"]["mean"]) == pytest.approx((1.0, -0.5))
    (line,) = goodhart_lines(results)
    assert line.startswith("Goodhart watch: WARNING: from v1 to v2 the reward trained for rose by +1.00")
    assert "the gold reward moved by -0.50" in line


def test_a_model_is_warned_of_once_against_the_one_that_it_lost_most_to() -> None:
    results = judgement({"sft": judged("sft", 0.0, 1.6), "v1": judged("v1", 1.0, 2.0), "v2": judged("v2", 2.0, 1.5)})["goodhart"]
    assert {(row["new"], row["old"]) for row in results["warnings"]} == {("v2", "sft"), ("v2", "v1")}
    (line,) = goodhart_lines(results)
    assert "from v1 to v2" in line
    assert "(and so against 1 other)" in line


@pytest.mark.parametrize(("reward", "gold"), [(2.0, 2.5), (0.5, 1.5), (2.0, 1.98)])
def test_the_watch_is_silent_where_both_rise_both_fall_or_the_fall_is_within_its_interval(reward: float, gold: float) -> None:
    old, new = judged("v1", 1.0, 2.0), judged("v2", reward, gold)
    if gold == 1.98:  # a fall of 0.02 with differences that spread
        new = [answer(number, f"v2 {number}", rewards={"reward": reward, "gold": 1.98 + 0.3 * (-1) ** number}) for number in range(20)]
    results = judgement({"v1": old, "v2": new})["goodhart"]
    assert (results["watches"], results["warnings"]) == (["gold"], [])
    assert goodhart_lines(results) == ["Goodhart watch: no warning; nowhere did gold fall while the reward that was trained for rose"]


def test_without_a_watch_it_is_said_that_nobody_watches() -> None:
    results = judgement({"a": answers("a", [0, 0]), "b": answers("b", [1, 1])})["goodhart"]
    assert goodhart_lines(results) == ["Goodhart watch: nobody watches. Name a reward model that no training learns from (watch)"]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="found 1 models on 2 prompts"):
        judgement({"a": answers("a", [0, 0])})
    with pytest.raises(DataError, match="found 2 models on 1 prompts"):
        judgement({"a": answers("a", [0]), "b": answers("b", [0])})
    with pytest.raises(DataError, match="b answered other prompts than a"):
        judgement({"a": answers("a", [0, 0]), "b": answers("b", [0, 0])[::-1]})
