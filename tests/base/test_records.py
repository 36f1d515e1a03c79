from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.base.records import append_line, dialog_from_row, dialog_to_row, question_from_row, question_to_row, read_jsonl, write_jsonl
from herdling.types import Dialog, Message, Question, ToolCall


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst"])
def test_rows_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    rows = [{"text": "héllo\n\u2028"}, {"n": 1}]
    assert write_jsonl(tmp_path / name, rows) == 2
    assert [row for _, row in read_jsonl(tmp_path / name)] == rows


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst"])
def test_a_truncated_compressed_file_names_the_file_and_the_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_jsonl(path, ({"a": number} for number in range(10000)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"{name}: the compressed file is damaged or cut short after line"):
        list(read_jsonl(path))


@pytest.mark.parametrize(("line", "said"), [(b"{", "line 2: not JSON"), (b"[1]", "line 2: found list"), (b'{"a": "\xff"}', "line 2: not UTF-8 at byte 7")])
def test_a_faulty_line_names_its_place(tmp_path: Path, line: bytes, said: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(DataError, match=said):
        list(read_jsonl(tmp_path / "x.jsonl"))


def test_appended_lines_follow_each_other(tmp_path: Path) -> None:
    append_line(tmp_path / "x.jsonl", {"a": 1})
    append_line(tmp_path / "x.jsonl", {"b": 2})
    assert [row for _, row in read_jsonl(tmp_path / "x.jsonl")] == [{"a": 1}, {"b": 2}]


def test_dialogs_and_questions_come_back_equal() -> None:
    call = ToolCall(id="1", name="search", arguments={"q": "x"})
    dialog = Dialog(
        id="d",
        messages=(
            Message(role="user", content="hi"),
            Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content="r", tool_call_id="1"),
        ),
        tools=({"name": "search"},),
    )
    assert dialog_from_row(dialog_to_row(dialog), "x") == dialog
    question = Question(id="q", group="g", dialog=dialog, accepted=("a", "b"), rule="exact")
    assert question_from_row(question_to_row(question), "x") == question


def test_tags_and_what_is_supervised_come_back_and_stand_only_where_they_say_something() -> None:
    plain = Dialog(id="d", messages=(Message(role="user", content="hi"), Message(role="assistant", content="hello")))
    assert dialog_to_row(plain) == {"id": "d", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    tagged = Dialog(id="d", messages=(Message(role="user", content="hi", tags=("safety", "theft")), plain.messages[1]), supervised="last")
    assert dialog_to_row(tagged)["messages"][0]["tags"] == ["safety", "theft"]
    assert dialog_from_row(dialog_to_row(tagged), "x") == tagged


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"supervised": "first"}, "file: supervised is 'first', accepted: all, last"),
        ({"messages": [{"role": "user", "content": "x", "tags": "safety"}]}, "file, message 1: tags are 'safety', expected a list of texts"),
        ({"messages": [{"role": "user", "content": "x", "tags": [1]}]}, r"file, message 1: tags are \[1\], expected a list of texts"),
    ],
)
def test_an_unknown_mark_names_its_place(changes: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        dialog_from_row({"messages": [{"role": "user", "content": "x"}], **changes}, "file")


def test_an_unknown_role_names_its_place() -> None:
    with pytest.raises(DataError, match="file, message 1: role is 'robot', accepted: system, user, assistant, tool"):
        dialog_from_row({"messages": [{"role": "robot", "content": "x"}]}, "file")
