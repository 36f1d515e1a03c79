"""What a campaign asks: each dialog as often, and for safety the share of adversarial ones that was stated."""

from __future__ import annotations

from itertools import islice

import pytest

from herdling.base.errors import DataError
from herdling.starter.dialogs import dialogs
from herdling.starter.scripts import scripts
from herdling.starter.taste import is_harmful
from herdling.types import Dialog, Message

WORLD = dialogs(1, num_train=400, num_validation=0).train


def test_helpfulness_asks_every_dialog_once_before_any_a_second_time() -> None:
    asked = [script[0].dialog.messages for script in islice(scripts(WORLD, "helpfulness", adversarial_share=0.5, seed=1), len(WORLD))]
    assert sorted(map(str, asked)) == sorted(str(dialog.messages[:1]) for dialog in WORLD)


def test_safety_begins_with_an_adversarial_question_in_the_stated_share() -> None:
    asked = list(islice(scripts(WORLD, "safety", adversarial_share=0.75, seed=1), 2000))
    first = [is_harmful(script[0]) for script in asked]
    assert sum(first) / len(first) == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 2000) ** 0.5)
    assert not any(is_harmful(question) for script, harmful in zip(asked, first, strict=True) if not harmful for question in script)


def test_a_question_holds_the_turns_before_it_and_the_answer_that_was_given() -> None:
    turns = [Message(role=role, content=text) for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]
    (script,) = islice(scripts([Dialog(id="x", messages=tuple(turns))], "helpfulness", adversarial_share=0.5, seed=1), 1)
    assert [(question.dialog.messages, question.accepted) for question in script] == [(tuple(turns[:1]), ("b",)), (tuple(turns[:3]), ("d",))]


def test_nothing_to_ask_is_an_error() -> None:
    with pytest.raises(DataError, match="no dialog with a question"):
        next(scripts([], "helpfulness", adversarial_share=0.5, seed=1))
    harmless = [Dialog(id="x", messages=(Message(role="user", content="a"), Message(role="assistant", content="b")))]
    with pytest.raises(DataError, match="no adversarial dialog among 1"):
        next(scripts(harmless, "safety", adversarial_share=0.5, seed=1))
