from __future__ import annotations

from math import isclose

import pytest

from herdling.base.errors import DataError
from herdling.preference.rating import KEYS, LEVELS, MARGINS, SAFETY_LABELS, choice_of_key, flags_of_label, key_of_choice, label_of_flags


def test_the_eight_keys_run_from_left_significantly_to_right_significantly() -> None:
    assert [choice_of_key(key) for key in KEYS] == [
        ("left", "significantly"),
        ("left", "better"),
        ("left", "slightly"),
        ("left", "negligibly"),
        ("right", "negligibly"),
        ("right", "slightly"),
        ("right", "better"),
        ("right", "significantly"),
    ]


def test_a_choice_finds_its_key_again() -> None:
    assert [key_of_choice(*choice_of_key(key)) for key in KEYS] == list(range(1, 9))


@pytest.mark.parametrize("key", [0, 9, -1])
def test_a_key_outside_the_scale_is_refused_with_what_is_accepted(key: int) -> None:
    with pytest.raises(DataError, match=r"rating outside the scale: found key .* accepted: 1 .* to 8"):
        choice_of_key(key)


def test_margins_are_those_of_table_27() -> None:
    assert [MARGINS["large"][level] for level in LEVELS] == [3, 2, 1, 0]
    assert all(isclose(MARGINS["small"][level], value) for level, value in zip(LEVELS, (1, 2 / 3, 1 / 3, 0), strict=True))
    assert set(MARGINS["none"].values()) == {0}


def test_each_safety_label_says_which_response_is_safe() -> None:
    assert flags_of_label("chosen safe", 0) == (True, False)
    assert flags_of_label("chosen safe", 1) == (False, True)
    assert flags_of_label("both safe", 1) == (True, True)
    assert flags_of_label("both unsafe", 0) == (False, False)


@pytest.mark.parametrize("chosen", [0, 1])
def test_flags_find_their_label_again(chosen: int) -> None:
    assert [label_of_flags(flags_of_label(label, chosen), chosen) for label in SAFETY_LABELS] == list(SAFETY_LABELS)


def test_no_label_names_a_pair_whose_chosen_response_alone_is_unsafe() -> None:
    with pytest.raises(DataError, match="unsafe response chosen"):
        label_of_flags((False, True), 0)
