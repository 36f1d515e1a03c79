"""Overused habits of answers: counted as a reader counts them, mended or dropped, and apologies held to their share."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdling.base.decode import decode
from herdling.base.errors import SettingsError
from herdling.data.overuse import TOO_MANY_EMOJI, TOO_MANY_EXCLAMATIONS, OveruseConfig, beyond_share, num_emoji, num_exclamations
from herdling.types import Dialog
from tests.data.toy_tokens import dialog


def rules(**settings: Any) -> OveruseConfig:
    return decode(OveruseConfig, settings, "overuse")


def answer(made: Dialog) -> str:
    return made.messages[-1].content


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("plain words, 3 * 4 = 12 # 1 (c) \u00a9 \u2713 \u2192 \u2605", 0),
        ("\U0001f389", 1),
        ("a \U0001f44d\U0001f3fd b", 1),  # a skin tone
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", 1),  # a family
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 2),  # two flags
        ("\u2764\ufe0f \u2764", 1),  # a heart as a picture, and one as text
        ("\u2728\u2728\u2728", 3),
        ("`print('\U0001f389')`", 0),
    ],
)
def test_emoji_are_counted_as_a_reader_sees_them(text: str, count: int) -> None:
    assert num_emoji(text) == count


def test_every_character_that_unicode_shows_as_an_emoji_is_one() -> None:
    regex = pytest.importorskip("regex")
    shown, flag = regex.compile(r"\p{Emoji_Presentation}"), regex.compile(r"\p{Regional_Indicator}|\p{Emoji_Modifier}")
    letters = [chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)) != "Cs"]
    assert [one for one in letters if shown.match(one) and not flag.match(one) and not num_emoji(one)] == []
    assert {unicodedata.category(one) for one in letters if num_emoji(one)} <= {"Sm", "So", "Sk", "Cn"}  # no letter, digit or punctuation


@pytest.mark.parametrize(
    ("text", "count"),
    [("Sure!", 1), ('Great!!! Yes! "No!" (So!) **Now!**', 7), ("a != b and !x", 0), ("`f!` and\n```\nprint('hey! ')\n```", 0), ("\u597d\uff01", 1)],
)
def test_exclamation_marks_are_those_of_prose(text: str, count: int) -> None:
    assert num_exclamations(text) == count


def test_without_a_bound_nothing_is_too_much() -> None:
    loud = dialog("hi", "Hello!!!!!! \U0001f389\U0001f389\U0001f389", name="loud")
    assert rules().fault(loud) == ""
    assert rules(excess="mend").mended(loud) == loud


def test_what_is_beyond_a_bound_has_its_name_and_the_user_may_say_what_he_likes() -> None:
    bounded = rules(max_emoji=1, max_exclamations=2)
    assert bounded.fault(dialog("hi!!!!! \U0001f389\U0001f389", "Hello!! \U0001f389", name="x")) == ""
    assert bounded.fault(dialog("hi", "Hello \U0001f389\U0001f389", name="x")) == TOO_MANY_EMOJI
    assert bounded.fault(dialog("hi", "Hello!!!", name="x")) == TOO_MANY_EXCLAMATIONS


@pytest.mark.parametrize(
    ("said", "mended"),
    [
        ("Great! Sure!!! Bye! Really?! Yes!", "Great! Sure! Bye. Really? Yes."),
        ("Try `a!` now! Or `b!` then! Done!", "Try `a!` now! Or `b!` then! Done."),
        ("\U0001f389 One \U0001f389 two \U0001f389 three.", "\U0001f389 One two three."),
        ("\U0001f389\n\U0001f389 First\n    code", "\U0001f389\nFirst\n    code"),
        ("As it was!", "As it was!"),
    ],
)
def test_mending_leaves_the_first_ones_and_the_words(said: str, mended: str) -> None:
    bounded = rules(max_emoji=1, max_exclamations=2, excess="mend")
    found = bounded.mended(dialog("hi!!!!", said, name="x"))
    assert answer(found) == mended
    assert found.messages[0].content == "hi!!!!"
    assert bounded.fault(found) == ""


def test_an_answer_of_which_nothing_would_be_left_is_not_mended() -> None:
    bounded = rules(max_emoji=0, excess="mend")
    only = dialog("hi", "\U0001f389", name="x")
    assert bounded.mended(only) == only
    assert bounded.fault(bounded.mended(only)) == TOO_MANY_EMOJI


@pytest.mark.parametrize(("said", "is_over"), [("I\u2019m SORRY, no.", True), ("so I apologize.", True), ("A sorry sight.", False)])
def test_phrases_are_found_in_any_case_and_with_any_apostrophe(said: str, is_over: bool) -> None:
    assert rules().overuses(dialog("I'm sorry?", said, name="x")) is is_over


def test_the_lowest_scores_go_first_by_hand() -> None:
    # Three others: at most one in four may be overused, so one stays.
    assert beyond_share([True, False, True, False, True, False], [1.0, 9.0, 3.0, 9.0, 2.0, 9.0], 0.25, seed=1) == {0, 4}
    assert beyond_share([True, True], [1.0, 1.0], 0.5, seed=1) == {0, 1}  # a share of nothing is nothing
    assert beyond_share([True, False], [1.0, 1.0], 0.5, seed=1) == set()


@given(st.lists(st.booleans(), max_size=60), st.floats(0, 0.99), st.integers(0, 99))
def test_the_share_is_kept_and_no_dialog_more_goes_than_it_asks_for(overused: list[bool], share: float, seed: int) -> None:
    gone = beyond_share(overused, [1.0] * len(overused), share, seed)
    left = sum(overused) - len(gone)
    others = len(overused) - sum(overused)
    assert all(overused[place] for place in gone)
    assert left <= share * (left + others) + 1e-6
    assert not gone or left + 1 > share * (left + 1 + others) - 1e-6


def test_a_share_of_no_phrase_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"overuse\.phrases: names none"):
        rules(phrases=[], max_share=0.1)
