"""The wishes of the benchmark on long instructions: what obeys one matches its pattern, and what does not obey it does not."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from herdling.base.decode import decode
from herdling.data.constraints import ConstraintKind, make_constraints
from herdling.types import Message
from tests.data.toy_tokens import dialog

PLAIN = ("It is in textwrap.", "13", "You are welcome!", "Removes all of it.")


@pytest.fixture(scope="module")
def wishes(script: Callable[[str], ModuleType]) -> Any:
    return script("many_wishes")


def test_by_hand_an_answer_in_the_form_of_each_family(wishes: Any) -> None:
    obey = {value: made for family in wishes.FAMILIES.values() for value, made in family.obey.items()}
    assert {value: obey[value]("It is.") for value in HAND} == HAND


HAND = {
    "starting with the word sure": "Sure: It is.",
    "ending with the word done": "It is. Done.",
    "in brackets": "[It is.]",
    "with a comma": "It is,",
    "as a numbered list": "1. It is.",
    "in lower case": "it is.",
    "calling me Anna": "It is, Anna.",
}


def test_the_pattern_of_a_wish_tells_what_obeys_it_from_what_does_not(wishes: Any) -> None:
    for family in wishes.FAMILIES.values():
        for value, obey in family.obey.items():
            for answer in PLAIN:
                assert re.search(wishes.pattern(obey), obey(answer)), value
            assert not re.search(wishes.pattern(obey), PLAIN[0]), value


def test_its_table_is_a_kind_of_constraint_that_names_what_is_held_out(wishes: Any) -> None:
    tables = tomllib.loads(wishes.constraints_toml("ghost"))["ghost"]["constraints"]
    made = make_constraints({name: decode(ConstraintKind, table, name) for name, table in tables.items()}, {})
    new = [one for one in made if one.held_out]
    assert len(made) - len(new) >= 40
    assert len(new) >= 10
    assert all(one.held_out for one in made if one.value.startswith("calling"))
    held_out_words = {one.value.rsplit(" ", 1)[-1] for one in new if "with the word" in one.value}
    assert not any(one.value.rsplit(" ", 1)[-1] in held_out_words for one in made if "with the word" in one.value and not one.held_out)


def test_what_is_held_out_can_be_left_out_of_the_dialogs(wishes: Any) -> None:
    given = [dialog("Where is dedent?", "It is in textwrap.") for _ in range(300)]
    new = {value for family in wishes.FAMILIES.values() for value in family.held_out}
    for held_out in (False, True):
        asked = [one.messages[0] for one in wishes.with_wishes(given, 1, wishes.wishes(held_out), share=1.0)]
        assert {any(_asks(question, value) for value in new) for question in asked} == {held_out}


def test_a_wish_holds_for_its_own_answer_alone_and_no_question_gets_two(wishes: Any) -> None:
    given = [dialog("Where is dedent?", "It is in textwrap.", "Answer in quotes: Who?", '"Me."') for _ in range(400)]
    asked = wishes.wishes(False, True)
    wished = [one.messages for one in wishes.with_wishes(given, 1, asked)]
    assert all(messages[2:] == given[0].messages[2:] for messages in wished)
    plain = [messages for messages in wished if messages[:2] == given[0].messages[:2]]
    assert 100 < len(plain) < 300
    families = {name: {one: obey("It is in textwrap.") for one, obey in family.obey.items()} for name, family in wishes.FAMILIES.items()}
    for question, answer, *_ in (messages for messages in wished if messages not in plain):
        value = next(one for values in families.values() for one in values if _asks(question, one))
        assert answer.content in {values[value] for values in families.values() if value in values}
    assert [one.messages for one in wishes.with_wishes(given, 1, asked)] == wished


def _asks(question: Message, value: str) -> bool:
    return re.search(rf"(?i)\b{re.escape(value)}[.:,]", question.content) is not None
