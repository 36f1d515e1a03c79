"""What a mix is made of: every dialog counted, by hand."""

from __future__ import annotations

from typing import Any

from herdling.evals.mix import mix_table, mix_tally


def test_the_mix_is_told_by_topic_by_hand() -> None:
    labels = [
        {"topic": "code", "turns": 1, "tokens": 10, "context_tokens": 6},
        {"topic": "code", "turns": 3, "tokens": 30, "context_tokens": 20},
        {"topic": "maths", "turns": 2, "tokens": 20, "context_tokens": 10},
    ]
    assert mix_table(labels) == [
        {"topic": "code", "dialogs": 2, "share": 0.6667, "turns": 2.0, "tokens": 20.0, "context_tokens": 13.0, "answer_tokens": 7.0},
        {"topic": "maths", "dialogs": 1, "share": 0.3333, "turns": 2.0, "tokens": 20.0, "context_tokens": 10.0, "answer_tokens": 10.0},
        {"topic": "all", "dialogs": 3, "share": 1.0, "turns": 2.0, "tokens": 20.0, "context_tokens": 12.0, "answer_tokens": 8.0},
    ]


def test_topic_quality_and_difficulty_are_counted_before_and_after() -> None:
    graded: dict[str, Any] = {"topic": "code", "reward": 1.0, "quality": 3.0}
    before: list[dict[str, Any]] = [
        {**graded, "good_by": ["reward", "judge"], "difficulty": 3},
        {**graded, "good_by": ["reward", "judge"], "difficulty": 3},
        {**graded, "good_by": [], "difficulty": 1},
        {"topic": "maths", "quality": None, "good_by": [], "difficulty": None},
        {"topic": "maths", "difficulty": 2, "good_by": []},
        {"topic": "maths", "why": "too many emoji in an answer"},
    ]
    assert [tuple(row.values()) for row in mix_tally(before, before[1:2])] == [
        ("code", "reward and judge", "hard", 2, 1),
        ("code", "neither", "easy", 1, 0),
        ("maths", "neither", "not graded", 1, 0),
        ("maths", "not labelled", "medium", 1, 0),
        ("maths", "not labelled", "not graded", 1, 0),
    ]
