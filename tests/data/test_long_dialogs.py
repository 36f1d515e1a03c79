"""Dialogs of many turns: whole ones behind each other, as many turns as drawn, and none that brings instructions of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from herdling.base.errors import SettingsError
from herdling.base.ledger import Ledger
from herdling.data.long_dialogs import joined, num_turns, plain_dialogs, several_turns
from herdling.types import Message
from tests.data.toy_tokens import dialog

SHORT = [dialog(f"{name}?", f"{name}!", f"more {name}?", f"more {name}!", name=name) for name in "abc"] + [dialog("d?", "d!", name="d")]


def test_dialogs_with_instructions_of_their_own_are_left_out_and_counted() -> None:
    plain = dialog("q", "a", name="plain")
    system = replace(plain, id="system", messages=(Message(role="system", content="Be kind."), *plain.messages))
    tools = replace(plain, id="tools", tools=({"name": "add"},))
    wish = dialog("q Answer in quotes.", '"a"', name="wish")
    harm = replace(plain, id="harm", messages=(replace(plain.messages[0], tags=("safety",)), plain.messages[1]))
    ledger = Ledger("x")
    assert plain_dialogs([plain, system, tools, wish, harm], ledger, without="[Aa]nswer in") == [plain]
    assert ledger.dropped == {"has a system message or tools": 2, "has an instruction of its own": 1, "has an adversarial prompt": 1}
    assert plain_dialogs([wish], Ledger("x"), without=None) == [wish]


def test_a_broken_pattern_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="without: '\\(' is no regular expression"):
        plain_dialogs([], Ledger("x"), without="(")


def test_only_dialogs_of_two_turns_or_more_are_several() -> None:
    assert [one.id for one in several_turns(SHORT)] == ["a", "b", "c"]


def test_joined_dialogs_have_the_turns_asked_for_and_hold_whole_dialogs() -> None:
    made = list(islice(joined(SHORT, (2, 6), seed=1), 500))
    sizes = Counter(map(num_turns, made))
    assert set(sizes) == {2, 3, 4, 5, 6}
    assert all(60 < size < 140 for size in sizes.values())
    for one in made:
        said = [message.content for message in one.messages]
        assert [message.role for message in one.messages] == ["user", "assistant"] * num_turns(one)
        # A follow-up stands right behind its question, always.
        assert all(said[index - 2] == text.removeprefix("more ") for index, text in enumerate(said) if text.startswith("more") and index % 2 == 0)


def test_each_dialog_is_dealt_equally_often() -> None:
    made = list(islice(joined(SHORT, (2, 2), seed=3), 600))
    first = Counter(one.messages[0].content for one in made)
    assert max(first.values()) < 1.6 * min(first.values())


def test_the_same_seed_joins_the_same_and_another_seed_others() -> None:
    one, same, other = ([made.messages for made in islice(joined(SHORT, (2, 6), seed=seed), 20)] for seed in (1, 1, 2))
    assert one == same != other
