"""Dialogs in the forms that people use: read alike, and what cannot teach is set aside with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_to_row
from herdling.data.dialogs import dialog_fault, dialog_text, last_question, opening, questions_of, read_dialogs
from herdling.types import Dialog, Message, Role
from tests.data.toy_tokens import dialog


def read(tmp_path: Path, *rows: object, name: str = "d.jsonl") -> tuple[list[Dialog], Ledger]:
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(row) for row in rows) if name.endswith("l") else json.dumps(rows))
    ledger = Ledger("dialogs")
    return list(read_dialogs(str(path), ledger)), ledger


def said(found: Dialog) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in found.messages]


ASKED = [("system", "Be kind."), ("user", "2+2?"), ("assistant", "4")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": role, "content": content} for role, content in ASKED]},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]}]
         + [{"role": role, "content": content} for role, content in ASKED[1:]]},
        {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
        {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}], "system": "Be kind."},
        {"instruction": "2+2?", "input": "", "output": "4", "system": "Be kind."},
        {"prompt": "2+2?", "completion": "4", "system": "Be kind."},
        {"prompt": "2+2?", "response": "4", "system": "Be kind."},
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_each_form_gives_the_same_dialog(tmp_path: Path, row: dict[str, object], name: str) -> None:
    (found,), ledger = read(tmp_path, row, name=name)
    assert said(found) == ASKED
    assert (ledger.rows_in, ledger.dropped) == (1, {})


def test_our_own_rows_come_back_as_they_were(tmp_path: Path) -> None:
    made = dialog("a", "b", "c", "d", name="own")
    assert read(tmp_path, dialog_to_row(made))[0] == [made]


def test_marks_of_our_own_rows_come_back_and_make_no_duplicate_another_text(tmp_path: Path) -> None:
    plain = dialog("a", "b", name="own")
    tagged = replace(plain, messages=(replace(plain.messages[0], tags=("safety",)), plain.messages[1]))
    assert read(tmp_path, dialog_to_row(tagged), dialog_to_row(replace(plain, supervised="last")))[0] == [tagged, replace(plain, supervised="last")]
    assert dialog_text(tagged) == dialog_text(plain)


def test_alpaca_input_follows_the_instruction_and_history_comes_before(tmp_path: Path) -> None:
    (found,), _ = read(tmp_path, {"instruction": "Add.", "input": "1, 2", "output": "3", "history": [["hi", "hello"]]})
    assert said(found) == [("user", "hi"), ("assistant", "hello"), ("user", "Add.\n\n1, 2"), ("assistant", "3")]


def test_tool_calls_of_openai_and_sharegpt_are_read_alike(tmp_path: Path) -> None:
    schema = [{"name": "add", "parameters": {}}]
    openai = {
        "tools": schema,
        "messages": [
            {"role": "user", "content": "1+2?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]},
            {"role": "tool", "content": "3", "tool_call_id": "call_1"},
            {"role": "assistant", "content": "It is 3."},
        ],
    }
    sharegpt = {
        "tools": json.dumps(schema),
        "conversations": [
            {"from": "human", "value": "1+2?"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "It is 3."},
        ],
    }
    (one, two), _ = read(tmp_path, openai, sharegpt)
    assert one.messages == two.messages
    assert one.tools == two.tools == tuple(schema)
    assert one.messages[1].tool_calls[0].arguments == {"a": 1}


def roles(*names: Role) -> Dialog:
    return Dialog(id="d", messages=tuple(Message(role=name, content="x") for name in names))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (roles("user", "assistant"), None),
        (roles("system", "user", "assistant", "user", "assistant"), None),
        (roles("assistant", "user"), ("roles do not alternate", "message 1 is assistant after start")),
        (roles("user", "user", "assistant"), ("roles do not alternate", "message 2 is user after user")),
        (roles("system", "user", "assistant", "assistant"), ("roles do not alternate", "message 4 is assistant after assistant")),
        (roles("user", "system", "assistant"), ("roles do not alternate", "message 2 is system after user")),
        (roles("user", "tool", "assistant"), ("roles do not alternate", "message 2 is tool after user")),
        (roles("user", "assistant", "user"), ("ends without an answer", "the last message is user")),
        (roles("system"), ("no messages", "1 in all")),
        (dialog("hello", " "), ("empty assistant message", "message 2")),
        (dialog("\ud800", "a"), ("not valid Unicode", "message 1")),
    ],
)
def test_only_dialogs_that_alternate_to_an_answer_can_teach(made: Dialog, expected: tuple[str, str] | None) -> None:
    assert dialog_fault(made) == expected


def test_bad_rows_are_set_aside_by_reason_and_place(tmp_path: Path) -> None:
    found, ledger = read(
        tmp_path,
        {"prompt": "q", "completion": "a"},
        {"conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "q"}]},
        {"messages": [{"role": "usr", "content": "q"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"conversations": [{"from": "function_call", "value": "no json"}]},
        {"other": 1},
    )
    assert len(found) == 1
    assert ledger.dropped == {"roles do not alternate": 1, "not a message": 1, "not only text": 1, "a function call is not JSON": 1, "no known form": 1}
    assert ledger.examples["roles do not alternate"] == [f"{tmp_path}/d.jsonl, line 2: message 1 is assistant after start"]


def test_a_first_row_of_no_known_form_is_an_error_that_names_the_forms(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.jsonl, line 1: no dialog in the fields question, answer; accepted: messages \(OpenAI chat\)"):
        read(tmp_path, {"question": "q", "answer": "a"})


def test_questions_are_compared_without_case_and_white_space() -> None:
    made = dialog("Who  are\nYOU?", "I.", "And now? ", "Yes.")
    assert opening(made) == "who are you?"
    assert last_question(made) == "and now?"
    assert questions_of(made) == {"who are you?", "and now?"}
