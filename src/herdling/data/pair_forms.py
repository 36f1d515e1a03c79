"""Pairs of a chosen and a rejected answer in other projects' rows: TRL, OpenAI, ShareGPT, Alpaca, StackExchange. Row to comparison, and comparison to row.

A reader raises `RowFault` with the reason why a row is none; a writer with the reason why its form cannot say what the comparison holds. None of these files
tells on which side an answer was shown: the chosen one comes first, and the metadata say `sides_known: False`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from herdling.base.artifact import text_fingerprint
from herdling.base.comparison_records import RATINGS
from herdling.base.errors import DataError
from herdling.base.records import message_from_row
from herdling.data.dialogs import RowFault, from_sharegpt, openai_message, system_of, tools_of
from herdling.types import Comparison, Completion, Dialog, Message, Rating

Row = Mapping[str, Any]
CANNOT = "cannot be expressed"
PARTED = "conversations part before the last answer"


def make_pair(
    row: Row, prompt: Sequence[Message], chosen: Message, rejected: Message, *, tools: Sequence[Any] = (), rating: Rating | None = None, **known: Any
) -> Comparison:
    """Return the comparison of two answers, the chosen one first; `known` goes to its metadata."""
    return make_comparison(row, prompt, [chosen, rejected], [0, 1], tools=tools, rating=rating, sides_known=False, **known)


def make_comparison(
    row: Row,
    prompt: Sequence[Message],
    answers: Sequence[Message],
    ranking: Sequence[int],
    *,
    tools: Sequence[Any] = (),
    rating: Rating | None = None,
    **known: Any,
) -> Comparison:
    """Return the comparison of these answers. Its id is the row's, or the digest of the row."""
    name = str(row["id"]) if row.get("id") not in (None, "") else text_fingerprint(json.dumps(dict(row), sort_keys=True, default=str))[:16]
    return Comparison(
        id=name,
        dialog=Dialog(id=name, messages=tuple(prompt), tools=tuple(tools)),
        responses=tuple(Completion(message=answer, stop_reason="end_of_turn") for answer in answers),
        ranking=tuple(ranking),
        rating=rating,
        metadata={key: value for key, value in known.items() if value is not None},
    )


def read_message(found: Any) -> Message:
    """Read one message of OpenAI's form or ours."""
    try:
        return message_from_row(openai_message(found), "message")
    except DataError as error:
        raise RowFault("not a message", str(error)) from None


def read_messages(found: Any) -> list[Message]:
    """Read a prompt: a text, which is the user's, or a list of messages."""
    if isinstance(found, str):
        return [Message(role="user", content=found)]
    if not isinstance(found, list):
        raise RowFault("not a message", f"a prompt is text or a list of messages; found {type(found).__name__}")
    return [read_message(message) for message in found]


def read_answer(found: Any) -> Message:
    """Read one answer: a text, a message, or a list of one message."""
    if isinstance(found, str):
        return Message(role="assistant", content=found)
    if isinstance(found, list):
        if len(found) != 1:
            raise RowFault("more than one message in an answer", f"found {len(found)}; only the last answer of a dialog can be compared")
        found = found[0]
    return read_message(found)


def write_message(message: Message, *, arguments_as_text: bool) -> dict[str, Any]:
    """Write a message in OpenAI's form. Its arguments are a text of JSON there, and an object in TRL's, which chat templates want."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        row["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments)) if arguments_as_text else dict(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    return row


def ends(comparison: Comparison) -> tuple[Message, Message]:
    """Return the best and the worst answer: what a file of pairs can hold."""
    return comparison.ranked[0].message, comparison.ranked[-1].message


def read_trl(row: Row, where: str) -> Comparison:
    """TRL preference: `chosen` and `rejected`, with the prompt beside them or at the beginning of both; strings or messages; a margin perhaps."""
    known = {"margin": row.get("margin")}
    if known["margin"] is not None and (isinstance(known["margin"], bool) or not isinstance(known["margin"], int | float)):
        raise RowFault("margin is no number", f"found {known['margin']!r}")
    chosen, rejected = row["chosen"], row["rejected"]
    if type(chosen) is not type(rejected) or not isinstance(chosen, str | list):
        raise RowFault("not a message", f"chosen is {type(chosen).__name__}, rejected {type(rejected).__name__}; accepted: two texts, or two lists of messages")
    if "prompt" in row:
        return make_pair(row, read_messages(row["prompt"]), read_answer(chosen), read_answer(rejected), tools=tools_of(row), **known)
    if isinstance(chosen, str):
        raise RowFault("no prompt", "where two texts part need not be where the answers begin; give a column prompt, or name the form trl_implicit")
    prompt, better, worse = split_conversations(read_messages(chosen), read_messages(rejected))
    return make_pair(row, prompt, better, worse, tools=tools_of(row), **known)


def read_trl_implicit(row: Row, where: str) -> Comparison:
    """TRL preference without a prompt. Two texts are parted by TRL's own rule: the prompt is what both begin with, less a space at its end.

    So first words that both answers share count as prompt; that is why this form is never taken without being named.
    """
    chosen, rejected = row["chosen"], row["rejected"]
    if not isinstance(chosen, str) or not isinstance(rejected, str) or "prompt" in row:
        return read_trl(row, where)
    same = next((index for index, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), min(len(chosen), len(rejected)))
    same -= chosen[:same].endswith(" ")
    return read_trl({**row, "prompt": chosen[:same], "chosen": chosen[same:], "rejected": rejected[same:]}, where)


def split_conversations(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[list[Message], Message, Message]:
    """Return (prompt, chosen answer, rejected answer) of two conversations that differ in their last message only."""
    if not chosen or len(chosen) != len(rejected) or chosen[:-1] != rejected[:-1]:
        same = next((index for index, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), min(len(chosen), len(rejected)))
        raise RowFault(PARTED, f"{len(chosen)} and {len(rejected)} messages, equal up to message {same}")
    return list(chosen[:-1]), chosen[-1], rejected[-1]


def write_trl(comparison: Comparison) -> dict[str, Any]:
    """TRL preference with an explicit prompt, all as messages."""
    prompt = [write_message(message, arguments_as_text=False) for message in comparison.dialog.messages]
    chosen, rejected = ([write_message(answer, arguments_as_text=False)] for answer in ends(comparison))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **_trl_columns(comparison)}


def write_trl_implicit(comparison: Comparison) -> dict[str, Any]:
    """TRL preference with the prompt at the beginning of both conversations."""
    row = write_trl(comparison)
    prompt = row.pop("prompt")
    return {**row, "chosen": prompt + row["chosen"], "rejected": prompt + row["rejected"]}


def write_trl_text(comparison: Comparison) -> dict[str, Any]:
    """TRL preference with three texts: one question without tools or system message."""
    messages, answers = comparison.dialog.messages, ends(comparison)
    if [message.role for message in messages] != ["user"] or comparison.dialog.tools or any(answer.tool_calls for answer in answers):
        raise RowFault(CANNOT, "texts hold one question of the user and answers without tool calls; take the form trl")
    return {"prompt": messages[0].content, "chosen": answers[0].content, "rejected": answers[1].content, **_trl_columns(comparison)}


def _trl_columns(comparison: Comparison) -> dict[str, Any]:
    margin, tools = comparison.metadata.get("margin"), [dict(tool) for tool in comparison.dialog.tools]
    return ({} if margin is None else {"margin": margin}) | ({"tools": tools} if tools else {})


def read_openai(row: Row, where: str) -> Comparison:
    """OpenAI's rows for direct preference optimization: `input` with messages and tools, `preferred_output` and `non_preferred_output`."""
    given = row["input"]
    if not isinstance(given, Mapping) or not isinstance(given.get("messages"), list):
        raise RowFault("no messages in input", f"found {str(given)[:80]}")
    unknown = set(given) - {"messages", "tools", "parallel_tool_calls"}
    if unknown:
        raise RowFault("unknown columns", "input." + ", input.".join(sorted(unknown)))
    chosen, rejected = read_answer(row["preferred_output"]), read_answer(row.get("non_preferred_output"))
    return make_pair(row, read_messages(given["messages"]), chosen, rejected, tools=tools_of(given), parallel_tool_calls=given.get("parallel_tool_calls"))


def write_openai(comparison: Comparison) -> dict[str, Any]:
    """OpenAI's rows for direct preference optimization; arguments of tool calls are text."""
    given: dict[str, Any] = {"messages": [write_message(message, arguments_as_text=True) for message in comparison.dialog.messages]}
    if comparison.dialog.tools:
        given["tools"] = [dict(tool) for tool in comparison.dialog.tools]
    if "parallel_tool_calls" in comparison.metadata:
        given["parallel_tool_calls"] = comparison.metadata["parallel_tool_calls"]
    chosen, rejected = ([write_message(answer, arguments_as_text=True)] for answer in ends(comparison))
    return {"input": given, "preferred_output": chosen, "non_preferred_output": rejected}


def write_openai_chat(comparison: Comparison) -> dict[str, Any]:
    """OpenAI chat: the dialog with its best answer, for fine-tuning. It says nothing of the others, so it cannot be read back as a comparison."""
    messages = [*comparison.dialog.messages, comparison.ranked[0].message]
    row: dict[str, Any] = {"messages": [write_message(message, arguments_as_text=True) for message in messages]}
    return row | ({"tools": [dict(tool) for tool in comparison.dialog.tools]} if comparison.dialog.tools else {})


def read_sharegpt(row: Row, where: str) -> Comparison:
    """ShareGPT preference: `conversations` up to the question, and the turns `chosen` and `rejected`."""
    dialog = from_sharegpt(row, where)
    sides: list[Message] = []
    for name in ("chosen", "rejected"):
        if not isinstance(row[name], Mapping):
            raise RowFault("not a message", f"{name} is {type(row[name]).__name__}, accepted is a turn with from and value")
        sides += from_sharegpt({"conversations": [row[name]]}, where).messages
    return make_pair(row, dialog.messages, sides[0], sides[1], tools=dialog.tools)


def write_sharegpt(comparison: Comparison) -> dict[str, Any]:
    """ShareGPT preference. A function call is a turn of its own there, without an id: a turn with words and calls, or with two calls, has no form."""
    messages = list(comparison.dialog.messages)
    row: dict[str, Any] = {}
    if messages[0].role == "system":
        row["system"] = _filled_system(messages.pop(0))
    if comparison.dialog.tools:
        row["tools"] = json.dumps([dict(tool) for tool in comparison.dialog.tools])
    chosen, rejected = map(_turn, ends(comparison))
    return {**row, "conversations": [_turn(message) for message in messages], "chosen": chosen, "rejected": rejected}


def _turn(message: Message) -> dict[str, str]:
    if message.tool_calls:
        if message.content or len(message.tool_calls) > 1:
            raise RowFault(CANNOT, "ShareGPT has one function call a turn, and no words beside it")
        call = message.tool_calls[0]
        return {"from": "function_call", "value": json.dumps({"name": call.name, "arguments": dict(call.arguments)})}
    name = {"user": "human", "assistant": "gpt", "tool": "observation"}.get(message.role)
    if name is None:
        raise RowFault(CANNOT, "a system message after the first message")
    return {"from": name, "value": message.content}


def _filled_system(message: Message) -> str:
    if not message.content.strip():
        raise RowFault(CANNOT, "a system message without words")
    return message.content


def read_alpaca(row: Row, where: str) -> Comparison:
    """Alpaca preference: `instruction`, `input`, `system`, `history` and the texts `chosen` and `rejected`."""
    texts = [row["instruction"], row["chosen"], row["rejected"], row.get("input", ""), row.get("output", "")]
    if not all(isinstance(text, str) for text in texts):
        raise RowFault("not a text", "instruction, input, output, chosen and rejected are texts in Alpaca's form")
    messages = system_of(row)
    for turn in row.get("history") or ():
        if not isinstance(turn, list | tuple) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise RowFault("not a turn", f"history holds pairs of question and answer; found {str(turn)[:60]}")
        messages += [Message(role="user", content=turn[0]), Message(role="assistant", content=turn[1])]
    question = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
    chosen, rejected = (Message(role="assistant", content=row[name]) for name in ("chosen", "rejected"))
    return make_pair(row, [*messages, Message(role="user", content=question)], chosen, rejected, output=row.get("output"))


def write_alpaca(comparison: Comparison) -> dict[str, Any]:
    """Alpaca preference: questions and answers in turn, without tools."""
    messages = list(comparison.dialog.messages)
    row: dict[str, Any] = {"system": _filled_system(messages.pop(0))} if messages[0].role == "system" else {}
    roles = [message.role for message in messages]
    if (
        roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]
        or comparison.dialog.tools
        or any(answer.tool_calls for answer in (*messages, *ends(comparison)))
    ):
        raise RowFault(CANNOT, "Alpaca's form holds questions and answers in turn, without tools")
    history = [[messages[index].content, messages[index + 1].content] for index in range(0, len(messages) - 1, 2)]
    chosen, rejected = ends(comparison)
    output = comparison.metadata.get("output")
    row |= {"instruction": messages[-1].content, "input": "", "chosen": chosen.content, "rejected": rejected.content}
    return row | ({"history": history} if history else {}) | ({} if output is None else {"output": output})


def read_stackexchange(row: Row, where: str) -> Comparison:
    """Pairs of answers of Stack Exchange by their votes: `score_chosen`, `score_rejected`, and a `rating` in four levels, such as `slightly_better`."""
    texts = [row["prompt"], row["chosen"], row["rejected"]]
    if not all(isinstance(text, str) for text in texts):
        raise RowFault("not a text", "prompt, chosen and rejected are texts in this form")
    rating = str(row.get("rating")).removesuffix("_better")
    if rating not in RATINGS:
        accepted = ", ".join(name if name == "better" else f"{name}_better" for name in RATINGS)
        raise RowFault("rating outside the scale", f"found {row.get('rating')!r}, accepted: {accepted}")
    known = {name: row.get(name) for name in ("site", "qid", "score_chosen", "score_rejected", "accepted")}
    chosen, rejected = (Message(role="assistant", content=row[name]) for name in ("chosen", "rejected"))
    return make_pair(row, [Message(role="user", content=row["prompt"])], chosen, rejected, rating=rating, **known)  # type: ignore[arg-type]


def write_stackexchange(comparison: Comparison) -> dict[str, Any]:
    """Pairs by votes: one question, and the votes that the metadata know."""
    missing = [name for name in ("site", "qid", "score_chosen", "score_rejected") if name not in comparison.metadata]
    if missing or comparison.rating is None:
        raise RowFault(CANNOT, f"no {'rating' if not missing else missing[0]}: this form tells the votes of two answers")
    row = write_trl_text(comparison)
    known = {name: comparison.metadata[name] for name in ("site", "qid", "score_chosen", "score_rejected", "accepted") if name in comparison.metadata}
    return {**row, **known, "rating": "better" if comparison.rating == "better" else f"{comparison.rating}_better"}
