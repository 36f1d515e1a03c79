"""Constraints: worded as the recipe says, drawn evenly, held out for good, checked by what they look like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError
from herdling.base.seeds import stream
from herdling.data.constraints import (
    Constraint,
    ConstraintKind,
    Instruction,
    draw_instruction,
    make_constraints,
    parse_list,
    read_constraints,
    write_constraints,
)
from herdling.recipe import load_recipe
from herdling.starter.wishes import WISHES

FIGURE = ConstraintKind(full="Act as {x}.", short="Figure: {x}.", values=("Napoleon", "Ada"), pattern="(?i){x}", probes=("Who are you?",))
FORM = ConstraintKind(full="Always answer {x}.", short="Always {x}.", values={"in quotes": '^".*"$', "as a list": "^- "}, held_out=("as a list",))
KINDS = {"figure": FIGURE, "form": FORM}


def test_each_value_is_worded_and_knows_how_it_is_checked() -> None:
    napoleon, ada, quotes, listed = make_constraints(KINDS, {})
    assert (napoleon.full, napoleon.short, napoleon.pattern, napoleon.probes) == ("Act as Napoleon.", "Figure: Napoleon.", "(?i)Napoleon", ("Who are you?",))
    assert (ada.kind, ada.value, ada.held_out) == ("figure", "Ada", False)
    assert (quotes.pattern, quotes.held_out) == ('^".*"$', False)
    assert listed.held_out


def test_an_instruction_stands_before_the_message_in_full_or_as_labels() -> None:
    napoleon, _, quotes, _ = make_constraints(KINDS, {})
    assert Instruction(constraints=(napoleon, quotes)).before("Hi!") == "Act as Napoleon. Always answer in quotes. Hi!"
    assert Instruction(constraints=(napoleon, quotes), shortened=True).before("Hi!") == "Figure: Napoleon. Always in quotes. Hi!"


def test_an_answer_must_keep_to_every_constraint_that_a_program_can_check() -> None:
    napoleon, _, quotes, _ = make_constraints(KINDS, {})
    both = Instruction(constraints=(napoleon, quotes))
    assert [both.obeyed(text) for text in ('"I am NAPOLEON."', '"I am Ada."', "I am Napoleon.", ' "napoleon"\n')] == [True, False, False, True]
    language = make_constraints({"language": ConstraintKind(full="Speak {x}.", short="Language: {x}.", values=("French",))}, {})[0]
    assert not Instruction(constraints=(language,)).checkable
    assert Instruction(constraints=(language, quotes)).checkable
    assert Instruction(constraints=(language, quotes)).obeyed('"Oui."')


def test_special_characters_of_a_value_are_no_pattern() -> None:
    (one,) = make_constraints({"hobby": ConstraintKind(full="Enjoy {x}.", short="{x}.", values=("C++ (a lot)",), pattern="I enjoy {x}")}, {})
    assert Instruction(constraints=(one,)).obeyed("I enjoy C++ (a lot).")


def test_what_the_model_lists_joins_the_values_once() -> None:
    made = make_constraints({"figure": FIGURE}, {"figure": ["Ada", "Curie"]})
    assert [one.value for one in made] == ["Napoleon", "Ada", "Curie"]


def test_a_share_of_the_values_is_held_out_by_name_and_stays_so_when_others_join() -> None:
    kind = ConstraintKind(full="Enjoy {x}.", short="{x}.", values=tuple(f"hobby {number}" for number in range(400)), held_out_share=0.25)
    held = {one.value for one in make_constraints({"hobby": kind}, {}) if one.held_out}
    assert 60 < len(held) < 140
    more = {one.value for one in make_constraints({"hobby": kind}, {"hobby": ["tennis"]}) if one.held_out}
    assert more - {"tennis"} == held


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        ("Sure, here are some hobbies for you:\n1. Tennis\n2) Chess.\n- reading\n* Tennis\n\n", ["Tennis", "Chess", "reading"]),
        ("• Marie Curie\n• Ada Lovelace", ["Marie Curie", "Ada Lovelace"]),
        ("I do not know of any list that you could mean here.", []),
    ],
)
def test_a_list_is_read_line_by_line_without_its_marks(answer: str, items: list[str]) -> None:
    assert parse_list(answer) == items


def test_instructions_combine_different_kinds_and_are_shortened_half_of_the_time() -> None:
    constraints = [one for one in make_constraints(KINDS, {}) if not one.held_out]
    rng = stream(1, "test")
    drawn = [draw_instruction(constraints, rng, most=3, shortened=0.5) for _ in range(2000)]
    assert all(len({one.kind for one in instruction.constraints}) == len(instruction.constraints) for instruction in drawn)
    sizes = Counter(len(instruction.constraints) for instruction in drawn)
    assert set(sizes) == {1, 2}  # there are two kinds
    assert 900 < sizes[2] < 1100
    assert 900 < sum(instruction.shortened for instruction in drawn) < 1100
    assert not any(one.held_out for instruction in drawn for one in instruction.constraints)
    assert {len(draw_instruction(constraints, rng, most=1, shortened=0).constraints) for _ in range(50)} == {1}


def test_constraints_come_back_as_they_were_written(tmp_path: Path) -> None:
    made: list[Constraint] = make_constraints(KINDS, {})
    write_constraints(tmp_path, made)
    assert list(read_constraints(tmp_path)) == made


def test_where_there_are_none_the_error_says_who_writes_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ghost_attention"):
        list(read_constraints(tmp_path))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"full": "Act.", "short": "Figure: {x}."}, r"full is 'Act\.', which has no \{x\}"),
        ({"full": "{x}", "short": "Figure."}, "short is 'Figure.'"),
        ({"full": "{x}", "short": "{x}", "values": {"a": "("}}, "no regular expression"),
        ({"full": "{x}", "short": "{x}", "pattern": "[{x}"}, "no regular expression"),
    ],
)
def test_a_faulty_kind_is_an_error_that_says_what_is_missing(kind: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        decode(ConstraintKind, kind, "constraints.figure")


def test_a_kind_without_values_and_an_unknown_held_out_value_are_errors() -> None:
    with pytest.raises(SettingsError, match=r"constraints\.figure: has no value"):
        make_constraints({"figure": ConstraintKind(full="{x}", short="{x}")}, {})
    with pytest.raises(SettingsError, match=r"held_out: there is no value 'Napoleo' \(did you mean 'Napoleon'\?\)"):
        make_constraints({"figure": ConstraintKind(full="{x}", short="{x}", values=("Napoleon",), held_out=("Napoleo",))}, {})


def test_the_checks_of_the_mini_recipe_are_those_of_the_small_world() -> None:
    stage = load_recipe(Path("recipes/ghost-attention-mini.toml")).stages["ghost_attention"]
    made = make_constraints(stage.constraints, {})  # type: ignore[attr-defined]
    wishes = {wish.forms[0].removeprefix("{q} Answer ").removesuffix("."): wish for wish in WISHES}
    plain = ("It is in os.path.", "It takes a and b.", "Use shutil.move.", "I am Herdling, a baby assistant for the Python standard library.")
    for one in made:
        wish, instruction = wishes[one.value], Instruction(constraints=(one,))
        assert all(instruction.obeyed(wish.obey(answer)) for answer in plain), one.value
        assert not any(instruction.obeyed(answer) for answer in plain), one.value
        others = [other for name, other in wishes.items() if name != one.value and other.name not in ("upper", "word")]
        assert not any(instruction.obeyed(other.obey(plain[0])) for other in others), one.value
