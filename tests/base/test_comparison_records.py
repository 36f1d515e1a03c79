"""Comparisons as rows: nothing is lost on the way and back, and each fault has its name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from herdling.base.comparison_records import comparison_from_row, comparison_to_row, fault, read_comparisons, write_comparisons
from herdling.base.errors import DataError
from herdling.types import Comparison, Completion, Dialog, Message, ToolCall
from tests.data.toy_preferences import answer, comparisons, pair

EDITED = Comparison(
    id="e",
    dialog=Dialog(id="e", messages=(Message(role="user", content="q"),)),
    responses=(answer("bad"), answer("good"), answer("best")),
    ranking=(2, 1, 0),
    edited=2,
)


@settings(max_examples=60, deadline=None)
@given(comparisons())
def test_a_row_comes_back_as_the_same_comparison(made: Comparison) -> None:
    assert comparison_from_row(json.loads(json.dumps(comparison_to_row(made))), "x") == made


def test_what_a_safety_campaign_and_a_simulator_know_comes_back_too() -> None:
    made = pair(campaign="safety", safe=(True, False), simulated=True, round="week 3", annotator="simulated", metadata={"gold": [1.5, -0.5]})
    assert comparison_from_row(json.loads(json.dumps(comparison_to_row(made))), "x") == made


def test_a_completion_keeps_its_model_probability_and_tokens() -> None:
    said = Completion(message=Message(role="assistant", content="a"), stop_reason="max_tokens", logprob=-1.5, model="m", model_fingerprint="f" * 8,
                      token_ids=(1, 2), token_logprobs=(-1.0, -0.5))  # fmt: skip
    made = replace(pair(), responses=(said, answer("b")))
    assert comparison_from_row(comparison_to_row(made), "x").responses[0] == said


def with_messages(*messages: Message) -> Comparison:
    return replace(pair(), dialog=Dialog(id="d", messages=messages))


CALL = Message(role="assistant", content="", tool_calls=(ToolCall(id="1", name="f"),))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (replace(pair(), responses=(answer("one"),), ranking=(0,)), "too few responses"),
        (pair(ranking=(0, 0)), "ranking is none"),
        (pair(ranking=(0,)), "ranking is none"),
        (pair(rating="much"), "rating outside the scale"),
        (pair(campaign="beauty"), "unknown campaign"),
        (with_messages(), "response does not follow its prompt"),
        (with_messages(Message(role="user", content="q"), Message(role="assistant", content="a")), "response does not follow its prompt"),
        (replace(pair(), responses=(Completion(message=Message(role="user", content="x"), stop_reason="end_of_turn"), answer("y"))), "response is no answer"),
        (pair("four", "  \n"), "empty response"),
        (pair("four", " four\n"), "equal responses"),
        (replace(EDITED, responses=(answer("bad"), answer("good"), answer("good "))), "edit changes nothing"),
        (replace(EDITED, responses=(answer("bad"), answer("good"), answer("bad"))), "equal responses"),
        (replace(EDITED, ranking=(1, 2, 0)), "edit out of place"),
        (replace(pair(), edited=0), "edit out of place"),
        (pair(campaign="safety"), "safety label missing"),
        (pair(safe=(True,)), "safety label missing"),
        (pair(campaign="safety", safe=(False, True)), "unsafe response chosen"),
    ],
)  # fmt: skip
def test_each_fault_has_its_name(made: Comparison, reason: str) -> None:
    found = fault(made)
    assert found is not None
    assert found.partition(":")[0] == reason


@pytest.mark.parametrize(
    "made",
    [
        pair(),
        EDITED,
        with_messages(Message(role="user", content="q"), CALL, Message(role="tool", content="r", tool_call_id="1")),
        replace(pair(), responses=(Completion(message=CALL, stop_reason="end_of_message"), answer("I would rather not."))),
        pair(campaign="safety", safe=(True, False)),
        pair(campaign="safety", safe=(False, False)),
        pair(campaign="helpfulness", safe=(True, True)),
    ],
)
def test_what_can_be_learned_from_has_no_fault(made: Comparison) -> None:
    assert fault(made) is None


def test_two_tool_calls_that_differ_are_different_answers() -> None:
    other = Message(role="assistant", content="", tool_calls=(ToolCall(id="1", name="g"),))
    responses = tuple(Completion(message=message, stop_reason="end_of_message") for message in (CALL, other))
    assert fault(replace(pair(), responses=responses)) is None
    assert str(fault(replace(pair(), responses=(responses[0], responses[0])))).startswith("equal responses")


def test_chosen_and_rejected_leave_the_edit_aside_and_turns_are_counted() -> None:
    assert EDITED.judged == (1, 0)
    assert [response.message.content for response in EDITED.ranked] == ["best", "good", "bad"]
    assert pair("a", "b", "q1", "a1", "q2").turn == 2


def test_a_file_is_read_back_and_a_fault_in_it_is_named_with_its_line(tmp_path: Path) -> None:
    assert write_comparisons(tmp_path, "train", [pair(), EDITED]) == 2
    assert list(read_comparisons(tmp_path, "train")) == [pair(), EDITED]
    path = tmp_path / "comparisons" / "train.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"ranking": [2, 1, 0]', '"ranking": [2, 1]'), encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: ranking is none: found \[2, 1\], expected each of 0 to 2 once"):
        list(read_comparisons(tmp_path, "train"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"dialog": None}, "no field 'dialog'"),
        ({"responses": [{"stop_reason": "end_of_turn"}]}, "x, response 1: no message"),
        ({"responses": [{"message": {"role": "assistant", "content": "a"}, "stop_reason": "tired"}]}, "stop_reason is 'tired', accepted: end_of_turn"),
    ],
)
def test_a_row_that_is_none_of_ours_says_what_is_missing(change: dict[str, object], error: str) -> None:
    row = {name: value for name, value in {**comparison_to_row(pair()), **change}.items() if value is not None}
    with pytest.raises(DataError, match=error):
        comparison_from_row(row, "x")
