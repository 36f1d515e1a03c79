"""Prompts: every answered turn, with what was said before, and whether it is adversarial."""

from __future__ import annotations

from dataclasses import replace

from herdling.data.prompts import is_safety, prompts_of
from herdling.types import Dialog, Message, ToolCall
from tests.data.toy_tokens import dialog


def test_each_answered_turn_is_a_prompt_with_all_that_was_said_before_it() -> None:
    made = dialog("a", "b", "c", "d", "e", name="x")
    assert [(prompt.id, prompt.messages) for prompt in prompts_of([made])] == [("x/1", made.messages[:1]), ("x/2", made.messages[:3])]


def test_turns_are_counted_by_the_user_also_behind_a_system_message_and_calls() -> None:
    call = ToolCall(id="c", name="add")
    messages = (
        Message(role="system", content="Be kind."),
        Message(role="user", content="1+2?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="3", tool_call_id="c"),
        Message(role="assistant", content="3."),
        Message(role="user", content="Thanks."),
        Message(role="assistant", content="Welcome."),
    )
    tools = ({"name": "add"},)
    made = Dialog(id="x", messages=messages, tools=tools, supervised="last")
    assert list(prompts_of([made])) == [Dialog(id="x/1", messages=messages[:2], tools=tools), Dialog(id="x/2", messages=messages[:6], tools=tools)]


def test_a_prompt_is_adversarial_by_its_last_message_only() -> None:
    plain = dialog("a", "b", "c", "d")
    first, last = (replace(plain, messages=tuple(replace(one, tags=("safety",)) if i == at else one for i, one in enumerate(plain.messages))) for at in (0, 2))
    assert [is_safety(prompt) for prompt in prompts_of([plain, first, last])] == [False, False, True, False, False, True]
