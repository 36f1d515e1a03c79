"""Questions are asked in order and counted by group; a base model is asked in plain text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from herdling.evals.prompts import choose_examples, few_shot_prompt
from herdling.evals.runner import ask, first_of_each_group, tally
from herdling.types import Dialog, Message, Question


def dialog(*texts: str) -> Dialog:
    roles = ("user", "assistant") * len(texts)
    return Dialog(id=texts[0], messages=tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False)))


QUESTIONS = [Question(id=f"{group}/{n}", group=group, dialog=dialog(f"{n}?"), accepted=(str(n),)) for n, group in enumerate("aababb")]


def test_answers_are_graded_in_the_order_of_the_questions_and_tallied_by_group() -> None:
    sizes: list[int] = []

    def answer(dialogs: Sequence[Dialog]) -> list[str]:
        sizes.append(len(dialogs))
        return [asked.messages[-1].content.removesuffix("?") if asked.id != "1?" else "wrong" for asked in dialogs]

    rows = list(ask("sft", QUESTIONS, answer, batch_size=4))
    assert sizes == [4, 2]
    assert [row["id"] for row in rows] == [question.id for question in QUESTIONS]
    assert rows[1] == {
        "model": "sft",
        "id": "a/1",
        "group": "a",
        "question": "1?",
        "answer": "wrong",
        "accepted": ["1"],
        "rule": "exact",
        "correct": False,
    }
    scores = tally(rows)
    assert list(scores) == ["a", "b"]
    assert (scores["a"]["correct"], scores["a"]["total"], scores["b"]["accuracy"]) == (2, 3, 1.0)
    assert scores["a"]["low"] < 2 / 3 < scores["a"]["high"]


def test_a_model_that_loses_an_answer_is_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(ask("sft", QUESTIONS, lambda dialogs: ["x"] * (len(dialogs) - 1)))


def test_a_limit_takes_the_first_of_each_group() -> None:
    assert [question.id for question in first_of_each_group(QUESTIONS, 2)] == ["a/0", "a/1", "b/2", "b/4"]
    assert first_of_each_group(QUESTIONS, None) == QUESTIONS


def test_the_plain_prompt_shows_examples_earlier_turns_and_stops_before_the_answer() -> None:
    examples = choose_examples([dialog("1?", "one", "2?", "two"), dialog("3?", "three"), dialog("4?", "three"), dialog("5?", "five"), dialog("6?", "six")], 2)
    assert [example.id for example in examples] == ["3?", "5?"]
    expected = "Question: 3?\nAnswer: three\nQuestion: 5?\nAnswer: five\nQuestion: a?\nAnswer: b\nQuestion: c d?\nAnswer:"
    assert few_shot_prompt(examples, dialog("a?", "b", "c\nd?")) == expected
