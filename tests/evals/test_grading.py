"""Answers are graded by rules a reader can check by hand."""

from __future__ import annotations

import pytest

from herdling.base.errors import DataError
from herdling.evals.grading import is_correct
from herdling.types import Dialog, Message, Question


def question(rule: str, *accepted: str) -> Question:
    dialog = Dialog(id="q", messages=(Message(role="user", content="?"),))
    return Question(id="q", group="g", dialog=dialog, accepted=accepted, rule=rule)


@pytest.mark.parametrize(
    ("rule", "answer", "right"),
    [
        ("exact", "It is in json.", True),
        ("exact", "  It is\n in json. ", True),
        ("exact", "It is in json", False),
        ("exact", "it is in json.", False),
        ("exact", "It is in json. Done.", False),
        ("starts_with", "It is in json. Done.", True),
        ("starts_with", "Well: It is in json.", False),
        ("contains", "Well: It is in json. Done.", True),
        ("contains", "It is in", False),
        ("exact", "", False),
    ],
)
def test_rules_by_hand(rule: str, answer: str, right: bool) -> None:
    assert is_correct(question(rule, "It is in json."), answer) is right


def test_any_accepted_answer_will_do_and_accents_may_be_composed_or_not() -> None:
    assert is_correct(question("exact", "no", "café"), "cafe\u0301")


def test_a_rule_or_answer_that_means_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match=r"question q: unknown rule 'exakt' \(did you mean 'exact'\?\); there are: exact, starts_with, contains"):
        is_correct(question("exakt", "a"), "a")
    with pytest.raises(DataError, match="has no accepted answer"):
        is_correct(question("exact"), "a")
    with pytest.raises(DataError, match="or an empty one"):
        is_correct(question("contains", " "), "a")
