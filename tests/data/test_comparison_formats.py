"""Other projects' rows: each form is found and read alike, what it can say comes back, and what it cannot is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.data.comparison_formats import FORMS, READABLE, WRITABLE, export_comparisons, find_form, import_comparisons
from herdling.data.dialogs import RowFault
from herdling.data.pair_forms import CANNOT
from herdling.types import Comparison, Completion, Message, ToolCall
from tests.data.toy_preferences import answer, comparisons, pair

SMALL = {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "negligibly": 0.0}


def bring_in(tmp_path: Path, *rows: Any, **options: Any) -> tuple[list[Comparison], Ledger]:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    ledger = Ledger("import")
    return list(import_comparisons(str(path), ledger, **options)), ledger


def plain(comparison: Comparison) -> tuple[Any, ...]:
    """What every form of pairs says: the dialog, and its answers from best to worst."""
    return comparison.dialog.messages, comparison.dialog.tools, [response.message for response in comparison.ranked]


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(texts)]


ROWS: dict[str, dict[str, Any]] = {
    "trl texts": {"prompt": "2+2?", "chosen": "four", "rejected": "five"},
    "trl messages": {"prompt": messages("2+2?"), "chosen": [messages("", "four")[1]], "rejected": [messages("", "five")[1]]},
    "trl implicit": {"chosen": messages("2+2?", "four"), "rejected": messages("2+2?", "five")},
    "openai": {"input": {"messages": messages("2+2?"), "tools": []}, "preferred_output": [messages("", "four")[1]],
               "non_preferred_output": [messages("", "five")[1]]},
    "sharegpt": {"conversations": [{"from": "human", "value": "2+2?"}], "chosen": {"from": "gpt", "value": "four"},
                 "rejected": {"from": "gpt", "value": "five"}},
    "alpaca": {"instruction": "2+2?", "input": "", "output": "4", "chosen": "four", "rejected": "five"},
    "hh": {"chosen": "\n\nHuman: 2+2?\n\nAssistant: four", "rejected": "\n\nHuman: 2+2?\n\nAssistant: five"},
    "helpsteer3": {"domain": "general", "language": "english", "context": messages("2+2?"), "response1": "five", "response2": "four",
                   "overall_preference": 2, "individual_preference": [{"score": 2, "reasoning": "right"}]},
    "helpsteer2": {"split": "train", "prompt": "2+2?", "response_1": "four", "response_2": "five", "preference_strength": -2},
    "best_of_k": {"prompt": "2+2?", "responses": ["five", "four"], "rewards": [-1.0, 0.5]},
    "stackexchange": {"site": "math", "qid": "7", "prompt": "2+2?", "chosen": "four", "rejected": "five", "score_chosen": 9, "score_rejected": 4,
                      "accepted": True, "rating": "better"},
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_each_form_is_found_by_its_fields_and_says_the_same(tmp_path: Path, name: str) -> None:
    assert find_form(ROWS[name]) == name.split(" ")[0]
    (found,), ledger = bring_in(tmp_path, ROWS[name])
    assert plain(found) == plain(pair())
    assert found.rating == ("better" if name in ("helpsteer3", "helpsteer2", "stackexchange") else None)
    assert (ledger.rows_in, ledger.dropped) == (1, {})


def test_two_texts_without_a_prompt_are_parted_by_trls_rule_where_it_is_asked_for(tmp_path: Path) -> None:
    # The example of TRL's documentation of preference data with an implicit prompt.
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    (found,), _ = bring_in(tmp_path, row, form="trl_implicit")
    assert found.dialog.messages == (Message(role="user", content="The sky is"),)
    assert [response.message.content for response in found.ranked] == [" blue.", " green."]
    assert find_form(row) == "trl"
    assert bring_in(tmp_path, {**row, "id": "first"}, {"prompt": "q", "chosen": "a", "rejected": "b"})[1].dropped == {"no prompt": 1}
    _, ledger = bring_in(tmp_path, row, {"chosen": "The sky", "rejected": "The sky is"}, form="trl_implicit")
    assert ledger.dropped == {"empty response": 1}


def test_sides_are_kept_where_the_form_tells_them_and_said_to_be_unknown_where_not(tmp_path: Path) -> None:
    by_name = {name: bring_in(tmp_path, row)[0][0] for name, row in ROWS.items()}
    assert by_name["helpsteer3"].ranking == (1, 0)
    assert by_name["helpsteer2"].ranking == (0, 1)
    assert {name for name, found in by_name.items() if found.metadata.get("sides_known", True)} == {"helpsteer3", "helpsteer2"}


def test_graded_answers_of_one_prompt_become_one_ranking(tmp_path: Path) -> None:
    grades = [("a", 1), ("b", 4), ("c", 3)]
    rows = [{"prompt": "q", "response": text, "helpfulness": grade, "correctness": 4, "verbosity": 2} for text, grade in grades]
    found, ledger = bring_in(tmp_path, *rows, {"prompt": "alone", "response": "x", "helpfulness": 2})
    assert [response.message.content for response in found[0].ranked] == ["b", "c", "a"]
    assert found[0].metadata["grades"][1] == {"helpfulness": 4, "correctness": 4, "coherence": None, "complexity": None, "verbosity": 2}
    assert (len(found), ledger.rows_in, ledger.dropped) == (1, 4, {"too few responses": 1})


@pytest.mark.parametrize("strength", [-3, -2, -1, 1, 2, 3])
def test_helpsteer_grades_are_levels_and_their_sign_is_the_side(tmp_path: Path, strength: int) -> None:
    (found,), _ = bring_in(tmp_path, {**ROWS["helpsteer2"], "preference_strength": strength})
    assert found.rating == {1: "slightly", 2: "better", 3: "significantly"}[abs(strength)]
    assert found.ranking == ((0, 1) if strength < 0 else (1, 0))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**ROWS["trl texts"], "weight": 2}, "unknown columns"),
        ({**ROWS["openai"], "input": {"messages": messages("q"), "model": "m"}}, "unknown columns"),
        ({**ROWS["trl texts"], "rejected": "four"}, "equal responses"),
        ({**ROWS["trl texts"], "chosen": " "}, "empty response"),
        ({**ROWS["trl texts"], "margin": "big"}, "margin is no number"),
        ({"chosen": "2+2? four", "rejected": "2+2? five"}, "no prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": messages("", "b")[1:]}, "not a message"),
        ({"prompt": messages("q", "a"), "chosen": "b", "rejected": "c"}, "response does not follow its prompt"),
        ({"prompt": "q", "chosen": messages("x", "y"), "rejected": messages("x", "z")}, "more than one message in an answer"),
        ({"chosen": messages("q", "a", "b", "c"), "rejected": messages("q", "other")}, "conversations part before the last answer"),
        ({"prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "chosen": "c", "rejected": "d"}, "roles do not alternate"),
        ({**ROWS["hh"], "chosen": "\n\nHuman: 2+2?\n\nAssistant: well\n\nHuman: now\n\nAssistant: four"}, "conversations part before the last answer"),
        ({**ROWS["helpsteer3"], "overall_preference": 0}, "no preference"),
        ({**ROWS["helpsteer3"], "overall_preference": 1.5}, "rating outside the scale"),
        ({**ROWS["helpsteer2"], "preference_strength": 4}, "rating outside the scale"),
        ({**ROWS["helpsteer2"], "prompt": "hi\n<extra_id_1>Assistant\nyes"}, "marks of turns in the prompt"),
        ({**ROWS["best_of_k"], "rewards": [1.0, 1.0]}, "no preference"),
        ({**ROWS["best_of_k"], "rewards": [1.0]}, "responses and rewards do not match"),
        ({**ROWS["best_of_k"], "rewards": [float("nan"), 1.0]}, "reward is no number"),
        ({**ROWS["stackexchange"], "rating": "best"}, "rating outside the scale"),
        ({**ROWS["alpaca"], "chosen": 4}, "not a text"),
        ({**ROWS["alpaca"], "history": [["only a question"]]}, "not a turn"),
        ({**ROWS["sharegpt"], "chosen": "four"}, "not a message"),
        ({"prompt": "2+2?", "text": "four"}, "no known form"),
        ({**ROWS["trl texts"], "prompt": "\ud800"}, "not valid Unicode"),
        ({**ROWS["trl texts"], "rejected": "\ud800"}, "not valid Unicode"),
        (ROWS["trl texts"], "exact duplicate"),
        ({**ROWS["trl texts"], "rejected": "six", "id": "first"}, "id used twice"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_set_aside_by_name_and_the_others_are_kept(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    good = {**ROWS["trl texts"], "id": "first"}
    last = {**ROWS["trl texts"], "chosen": "4", "id": "last"}
    found, ledger = bring_in(tmp_path, good, row, last)
    assert [comparison.id for comparison in found] == ["first", "last"]
    assert ledger.dropped == {reason: 1}
    assert "rows.jsonl, line 2" in ledger.examples[reason][0] or reason in ("exact duplicate", "id used twice")


def test_a_file_of_no_known_form_is_refused_with_the_forms_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"rows\.jsonl, line 1: no comparison in the fields question, answer; accepted are herdling: dialog, ranking, responses; openai:"
    ):
        bring_in(tmp_path, {"question": "q", "answer": "a"})
    with pytest.raises(DataError, match=r"accepted are those of openai"):
        bring_in(tmp_path, ROWS["hh"], form="openai")
    with pytest.raises(SettingsError, match="no form 'trll' to read \\(did you mean 'trl'"):
        bring_in(tmp_path, ROWS["hh"], form="trll")


def test_further_columns_are_kept_where_they_are_expected(tmp_path: Path) -> None:
    (found,), _ = bring_in(tmp_path, {**ROWS["trl texts"], "source": "web", "absent": None}, more_columns=["source"])
    assert found.metadata["source"] == "web"
    assert "absent" not in found.metadata


def test_margins_become_ratings_by_their_table_and_by_no_other(tmp_path: Path) -> None:
    rows = [{**ROWS["trl texts"], "chosen": f"answer {margin}", "margin": margin} for margin in (1.0, 2 / 3, 1 / 3, 0.0, 0.5)]
    found, ledger = bring_in(tmp_path, *rows, margins=SMALL)
    assert [one.rating for one in found] == ["significantly", "better", "slightly", "negligibly"]
    assert ledger.dropped == {"margin outside the table": 1}
    untold, _ = bring_in(tmp_path, *rows)
    assert [one.rating for one in untold] == [None] * 5
    assert untold[1].metadata["margin"] == 2 / 3


def test_the_same_pair_judged_by_two_people_is_no_duplicate(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    judged = [pair(id="1", annotator="ann"), pair(id="2", annotator="bob"), pair(id="3", annotator="bob", seconds=3.0)]
    export_comparisons(path, judged, "herdling", Ledger("out"))
    ledger = Ledger("in")
    assert list(import_comparisons(str(path), ledger)) == judged[:2]
    assert ledger.dropped == {"exact duplicate": 1}


def test_a_fault_of_our_own_rows_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    export_comparisons(path, [pair(id="1"), replace(pair(id="2"), rating="huge")], "herdling", Ledger("out"))  # type: ignore[arg-type]
    ledger = Ledger("in")
    assert len(list(import_comparisons(str(path), ledger))) == 1
    assert ledger.dropped == {"rating outside the scale": 1}


def there_and_back(tmp_path: Path, made: Comparison, form: str, **options: Any) -> Comparison | None:
    """Write and read; None where the form says that it cannot."""
    write = WRITABLE[form].write
    assert write is not None
    try:
        write(made)
    except RowFault as bad:
        assert bad.reason == CANNOT  # noqa: PT017 - which of the two ways it goes is what is asked
        return None
    path = tmp_path / f"{form}.jsonl"
    export_comparisons(path, [made], form, Ledger("out"), **options)
    ledger = Ledger("in")
    found = list(import_comparisons(str(path), ledger, **options))
    assert ledger.dropped == {}
    return found[0]


LOOSE = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LOOSE
@given(comparisons())
def test_our_own_form_keeps_everything(tmp_path: Path, made: Comparison) -> None:
    assert there_and_back(tmp_path, made, "herdling") == made


@pytest.mark.parametrize("form", ["trl", "trl_implicit", "openai", "sharegpt"])
@LOOSE
@given(made=comparisons(edit=False))
def test_forms_of_messages_keep_dialog_tools_answers_and_order(tmp_path: Path, form: str, made: Comparison) -> None:
    found = there_and_back(tmp_path, made, form)
    assert found is not None
    if form == "sharegpt":  # its function calls have no id: the reader numbers them
        made, found = without_call_ids(made), without_call_ids(found)
    assert plain(found) == plain(made)
    assert found.id == made.id or form == "openai"


@pytest.mark.parametrize("form", ["alpaca", "hh", "trl_text"])
@LOOSE
@given(made=comparisons(edit=False))
def test_forms_of_texts_keep_what_they_can_say_and_refuse_the_rest(tmp_path: Path, form: str, made: Comparison) -> None:
    found = there_and_back(tmp_path, made, form)
    said = [message.content for message in made.dialog.messages] + [response.message.content for response in made.responses]
    roles = [message.role for message in made.dialog.messages]
    simple = not made.dialog.tools and "tool" not in roles
    expressible = {
        "alpaca": simple,
        "hh": simple and "system" not in roles and not any(mark in text for text in said for mark in ("\n\nHuman:", "\n\nAssistant:")),
        "trl_text": simple and roles == ["user"],
    }
    assert (found is not None) is expressible[form]
    assert found is None or plain(found) == plain(made)


@LOOSE
@given(comparisons(tools=False, edit=False))
def test_helpsteer_keeps_sides_and_the_three_levels_that_it_has(tmp_path: Path, made: Comparison) -> None:
    found = there_and_back(tmp_path, made, "helpsteer3")
    assert (found is None) is (made.rating in (None, "negligibly"))
    assert found is None or (plain(found), found.rating, found.ranking) == (plain(made), made.rating, made.ranking)


@LOOSE
@given(comparisons(edit=False))
def test_margins_carry_ratings_through_trl(tmp_path: Path, made: Comparison) -> None:
    assume(made.rating is not None)
    found = there_and_back(tmp_path, made, "trl", margins=SMALL)
    assert found is not None
    assert (plain(found), found.rating) == (plain(made), made.rating)


@pytest.mark.parametrize("rewards", [[0.5, -1.0, 2.0], [3, 1, 2]])
def test_best_of_k_keeps_every_answer_and_its_reward(tmp_path: Path, rewards: list[float]) -> None:
    ranking = tuple(sorted(range(3), key=lambda index: -rewards[index]))
    made = replace(pair(), responses=tuple(answer(text) for text in "abc"), ranking=ranking, metadata={"rewards": rewards})
    found = there_and_back(tmp_path, made, "best_of_k")
    assert found is not None
    assert (plain(found), found.ranking, found.metadata["rewards"]) == (plain(made), ranking, rewards)
    assert there_and_back(tmp_path, replace(made, metadata={}), "best_of_k") is None


def test_votes_of_stack_exchange_come_back(tmp_path: Path) -> None:
    (found,), _ = bring_in(tmp_path, ROWS["stackexchange"])
    assert there_and_back(tmp_path, found, "stackexchange") == found
    assert there_and_back(tmp_path, pair(rating="better"), "stackexchange") is None


def test_an_answer_that_calls_a_tool_goes_through_the_forms_that_know_calls(tmp_path: Path) -> None:
    call = Message(role="assistant", content="", tool_calls=(ToolCall(id="call_1", name="add", arguments={"a": 2, "b": 2}),))
    made = replace(pair(), responses=(Completion(message=call, stop_reason="end_of_turn"), answer("five")))
    for form in ("trl", "trl_implicit", "openai"):
        found = there_and_back(tmp_path, made, form)
        assert found is not None
        assert plain(found) == plain(made)
    found = there_and_back(tmp_path, made, "sharegpt")
    assert found is not None
    assert found.responses[0].message.tool_calls[0].arguments == {"a": 2, "b": 2}
    assert [there_and_back(tmp_path, made, form) for form in ("alpaca", "hh", "trl_text")] == [None] * 3
    assert there_and_back(tmp_path, replace(made, rating="better"), "helpsteer3") is None
    openai = FORMS["openai"].write
    assert openai is not None
    assert openai(made)["preferred_output"][0]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 2, "b": 2}'}


def test_an_edit_is_the_best_of_a_pair_and_what_lies_between_is_named(tmp_path: Path) -> None:
    made = replace(pair(), responses=(answer("bad"), answer("good"), answer("best")), ranking=(2, 1, 0), edited=2)
    found = there_and_back(tmp_path, made, "trl")
    assert found is not None
    assert [response.message.content for response in found.ranked] == ["best", "bad"]
    ledger = Ledger("out")
    export_comparisons(tmp_path / "out.jsonl", [made], "trl", ledger)
    assert "left out: responses between the best and the worst" in ledger.counts


def test_openai_chat_holds_the_best_answer_only(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    export_comparisons(path, [pair("five", "four", ranking=(1, 0))], "openai_chat", Ledger("out"))
    assert json.loads(path.read_text(encoding="utf-8")) == {"messages": messages("2+2?", "four")}


def test_nothing_is_written_when_nothing_can_be_expressed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    with pytest.raises(DataError, match="no row is left of 1 read \\(cannot be expressed: 1\\)"):
        export_comparisons(path, [pair()], "helpsteer3", Ledger("out"))
    assert path.read_text() == "before"
    with pytest.raises(SettingsError, match="no form 'helpsteer2' to write"):
        export_comparisons(path, [pair()], "helpsteer2", Ledger("out"))


def test_every_form_that_is_written_and_read_names_what_it_loses() -> None:
    assert [name for name, form in FORMS.items() if not form.loses] == ["herdling"]
    assert set(READABLE) | set(WRITABLE) == set(FORMS)


def without_call_ids(made: Comparison) -> Comparison:
    def stripped(message: Message) -> Message:
        return replace(message, tool_call_id=None, tool_calls=tuple(replace(call, id="") for call in message.tool_calls))

    return replace(made, dialog=replace(made.dialog, messages=tuple(map(stripped, made.dialog.messages))))
