from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdling.base.errors import FormatError
from herdling.tokenizer import Tokenizer
from herdling.tokenizer.chat_format import ChatFormat, EncodedDialog, TokenRole, chat_format, format_named_by, shape_of
from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from herdling.tokenizer.tiktoken import TiktokenTokenizer
from herdling.types import Dialog, Message, ToolCall

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
SEARCH, CODE = {"name": "brave_search"}, {"name": "code_interpreter"}


def dialog(*turns: tuple[str, str | ToolCall], tools: tuple[dict[str, Any], ...] = ()) -> Dialog:
    messages = [
        Message(role=role, content="", tool_calls=(said,)) if isinstance(said, ToolCall) else Message(role=role, content=said)  # type: ignore[arg-type]
        for role, said in turns
    ]
    return Dialog(id="d1", messages=tuple(messages), tools=tools)


def shown(form: ChatFormat, encoded: EncodedDialog) -> list[tuple[str, str]]:
    """The text of each stretch of tokens with one role."""
    pairs = zip(encoded.ids, encoded.roles, strict=True)
    return [(role.name, form.tokenizer.decode([index for index, _ in group], skip_special=False)) for role, group in groupby(pairs, key=lambda pair: pair[1])]


TALK = dialog(("system", "Be brief."), ("user", " Hi "), ("assistant", "Hello!\n"), ("user", "Bye"), ("assistant", "See you"))


def test_a_llama_3_chat_has_a_role_for_every_token(llama3: TiktokenTokenizer) -> None:
    form = chat_format(llama3, "llama3")
    header = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    assert shown(form, form.encode(TALK)) == [
        ("BEGIN", "<|begin_of_text|>"), ("HEADER", header("system")), ("SYSTEM", "Be brief."), ("END_OTHER", "<|eot_id|>"),
        ("HEADER", header("user")), ("USER", "Hi"), ("END_OTHER", "<|eot_id|>"),
        ("HEADER", header("assistant")), ("ASSISTANT", "Hello!"), ("END", "<|eot_id|>"),
        ("HEADER", header("user")), ("USER", "Bye"), ("END_OTHER", "<|eot_id|>"),
        ("HEADER", header("assistant")), ("ASSISTANT", "See you"), ("END", "<|eot_id|>"),
    ]  # fmt: skip


def test_a_llama_2_chat_has_a_role_for_every_token(llama2: SentencePieceTokenizer) -> None:
    form = chat_format(llama2)
    stretches = [(role, text.strip(" ")) for role, text in shown(form, form.encode(TALK))]
    assert stretches == [
        ("BEGIN", "<s>"), ("HEADER", "[INST] <<SYS>>\n"), ("SYSTEM", "Be brief."), ("HEADER", "\n<</SYS>>\n\n"), ("USER", "Hi"), ("HEADER", "[/INST]"),
        ("ASSISTANT", "Hello!"), ("END", "</s>"),
        ("BEGIN", "<s>"), ("HEADER", "[INST]"), ("USER", "Bye"), ("HEADER", "[/INST]"), ("ASSISTANT", "See you"), ("END", "</s>"),
    ]  # fmt: skip
    assert form.tokenizer.decode(form.encode(TALK).ids, skip_special=False) == (
        # " Hi": Meta strips the system text and the first user text together, so the space between them stays.
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello! </s><s>[INST] Bye [/INST] See you </s>"
    )


def test_the_space_before_and_after_a_llama_2_answer_is_trained(llama2: SentencePieceTokenizer) -> None:
    form = chat_format(llama2)
    encoded = form.encode(dialog(("user", "2+2?"), ("assistant", "4")))
    trained = [form.tokenizer.token_bytes(index) for index, role in zip(encoded.ids, encoded.roles, strict=True) if role == TokenRole.ASSISTANT]
    assert b"".join(trained) == b" 4 "


def test_a_prompt_is_the_beginning_of_the_dialog_that_it_leads_to(tokenizer: Tokenizer) -> None:
    form = chat_format(tokenizer)
    prompt = form.encode(Dialog(id="d1", messages=TALK.messages[:4]), generate=True)
    whole = form.encode(TALK)
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.message_index[: len(prompt.ids)] == prompt.message_index
    assert {index for index, role in zip(whole.message_index, whole.roles, strict=True) if role == TokenRole.ASSISTANT} == {2, 4}


def test_llama_3_1_is_llama_3_without_tools(llama3: TiktokenTokenizer) -> None:
    assert chat_format(llama3, "llama3.1").encode(TALK) == chat_format(llama3, "llama3").encode(TALK)


def test_a_custom_tool_is_listed_called_and_answered(llama3: TiktokenTokenizer) -> None:
    form = chat_format(llama3)
    call = ToolCall(id="c", name="weather", arguments={"city": "Köln"})
    encoded = form.encode(dialog(("user", "Weather?"), ("assistant", call), ("tool", "rain"), ("assistant", "Rain."), tools=(WEATHER,)))
    stretches = shown(form, encoded)
    assert [role for role, _ in stretches] == [
        "BEGIN", "HEADER", "END_OTHER", "HEADER", "USER", "END_OTHER", "HEADER", "ASSISTANT", "END",
        "HEADER", "TOOL", "END_OTHER", "HEADER", "ASSISTANT", "END",
    ]  # fmt: skip
    assert stretches[1][1].endswith("\n\nEnvironment: ipython\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n")
    assert '    "type": "function"' in stretches[3][1]
    assert stretches[7:9] == [("ASSISTANT", '{"name": "weather", "parameters": {"city": "Köln"}}'), ("END", "<|eot_id|>")]
    assert stretches[9][1].startswith("<|start_header_id|>ipython")


def test_built_in_tools_are_called_behind_the_python_tag(llama3: TiktokenTokenizer) -> None:
    form = chat_format(llama3)
    search, code = ToolCall(id="c", name="brave_search", arguments={"query": "llamas"}), ToolCall(id="c", name="code_interpreter", arguments={"code": "1 + 1"})
    for call, text in ((search, 'brave_search.call(query="llamas")'), (code, "1 + 1")):
        encoded = form.encode(dialog(("user", "Hm?"), ("assistant", call), tools=(SEARCH, CODE)))
        stretches = shown(form, encoded)
        assert "Environment: ipython\nTools: brave_search\nCutting" in stretches[1][1]
        assert stretches[-2:] == [("ASSISTANT", f"<|python_tag|>{text}"), ("END", "<|eom_id|>")]


AWKWARD = [" ", "\n", "\n\n", "\t", "a", "12", "é", "▁", "<|eot_id|>", "<s>", "{{ x }}", "\u00a0", "\x1c", "\x85", "\ufdd0"]
CONTENT = st.one_of(
    st.text(min_size=1),
    st.lists(st.sampled_from(AWKWARD), min_size=1).map("".join),
).filter(str.strip)


@settings(max_examples=300, deadline=None)
@given(contents=st.lists(CONTENT, min_size=2, max_size=6), system=st.booleans())
def test_any_text_is_encoded_as_the_template_writes_it(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer, contents: list[str], system: bool) -> None:
    roles = ["system"] * system + ["user", "assistant"] * 3
    talk = dialog(*zip(roles, contents, strict=False))
    if len(contents) == 1 + system and system:
        return
    for form in (chat_format(llama2), chat_format(llama3, "llama3"), chat_format(llama3)):
        ends_open = talk.messages[-1].role == "user"
        if form.name == "llama2" and any(tag in content for tag in ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>") for content in contents):
            continue
        form.verify(talk, generate=ends_open)
        encoded = form.encode(talk, generate=ends_open)
        special = set(form.tokenizer.special_ids.values())
        spoken = {index for index, role in zip(encoded.ids, encoded.roles, strict=True) if role in (TokenRole.SYSTEM, TokenRole.USER, TokenRole.ASSISTANT)}
        assert not spoken & special


ARGUMENTS = st.dictionaries(st.text("abc_", min_size=1), st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())), max_size=3)


@settings(max_examples=200, deadline=None)
@given(arguments=ARGUMENTS, name=st.sampled_from(["weather", 'odd"name', "brave_search"]), more=st.booleans())
def test_any_call_is_encoded_as_the_template_writes_it_and_reads_back(llama3: TiktokenTokenizer, arguments: dict[str, Any], name: str, more: bool) -> None:
    form = chat_format(llama3)
    talk = dialog(("user", "Go"), ("assistant", ToolCall(id="call_0", name=name, arguments=arguments)), tools=(WEATHER, SEARCH) if more else (WEATHER,))
    form.verify(talk)
    encoded = form.encode(talk)
    said = [index for index, role in zip(encoded.ids, encoded.roles, strict=True) if role in (TokenRole.ASSISTANT, TokenRole.END)]
    if all(not isinstance(value, list) for value in arguments.values()) or name != "brave_search" or not more:
        assert form.parse(said) == talk.messages[-1]


@pytest.mark.parametrize("name", ["llama2", "llama3", "llama3.1"])
def test_what_was_said_reads_back(name: Any, request: pytest.FixtureRequest) -> None:
    form = chat_format(request.getfixturevalue("llama2" if name == "llama2" else "llama3"), name)
    for text in ("Hello there", "def f():\n    return 1", '{"answer": 4}', "4"):
        encoded = form.encode(dialog(("user", "Hi"), ("assistant", text)))
        said = [index for index, role in zip(encoded.ids, encoded.roles, strict=True) if role in (TokenRole.ASSISTANT, TokenRole.END)]
        assert form.parse(said) == Message(role="assistant", content=text)
        assert said[-1] == form.end_of_turn_id
        assert form.parse([*said, *form.tokenizer.encode("beyond the end")]).content == text


def test_code_behind_the_python_tag_reads_back_as_a_call(llama3: TiktokenTokenizer) -> None:
    form = chat_format(llama3)
    ids = [llama3.special_ids["<|python_tag|>"], *llama3.encode("print(1)"), llama3.special_ids["<|eom_id|>"]]
    assert form.parse(ids).tool_calls == (ToolCall(id="call_0", name="code_interpreter", arguments={"code": "print(1)"}),)


def test_stop_tokens_are_the_papers(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer) -> None:
    names = {index: name for name, index in llama3.special_ids.items()}
    assert chat_format(llama2).stop_ids == (llama2.eos_id,)
    assert [names[index] for index in chat_format(llama3, "llama3").stop_ids] == ["<|end_of_text|>", "<|eot_id|>"]
    assert [names[index] for index in chat_format(llama3, "llama3.1").stop_ids] == ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]


CALL = ToolCall(id="c", name="weather", arguments={})
TWO_CALLS = Dialog(id="d1", messages=(Message(role="user", content="Hi"), Message(role="assistant", content="", tool_calls=(CALL, CALL))))
TEXT_AND_CALL = Dialog(id="d1", messages=(Message(role="user", content="Hi"), Message(role="assistant", content="Wait.", tool_calls=(CALL,))))


@pytest.mark.parametrize(
    ("talk", "match"),
    [
        (dialog(), "d1: has no user message"),
        (dialog(("system", "Only")), "d1: has no user message"),
        (dialog(("assistant", "Hi")), r"d1, message 1 \(assistant\): expected user first"),
        (dialog(("user", "a"), ("user", "b")), r"d1, message 2 \(user\): expected assistant after user"),
        (dialog(("user", "a"), ("system", "b")), r"d1, message 2 \(system\): expected assistant after user"),
        (dialog(("user", "a"), ("assistant", "b"), ("assistant", "c")), r"d1, message 3 \(assistant\): expected user after assistant"),
        (dialog(("user", "a"), ("tool", "b")), r"message 2 \(tool\): expected assistant after user"),
        (dialog(("user", "a"), ("assistant", CALL), ("user", "b")), r"message 3 \(user\): expected tool after a tool call"),
        (dialog(("user", " \n")), r"message 1 \(user\): is empty"),
        (dialog(("system", ""), ("user", "a")), r"message 1 \(system\): is empty"),
        (dialog(("user", "a"), ("assistant", "")), r"message 2 \(assistant\): is empty"),
        (TWO_CALLS, r"message 2 \(assistant\): makes 2 tool calls"),
        (TEXT_AND_CALL, r"message 2 \(assistant\): has text beside its tool call"),
        (dialog(("user", "a"), ("assistant", ToolCall(id="c", name="code_interpreter"))), "it takes `code`"),
    ],
)
def test_what_a_chat_cannot_say_is_refused_with_its_place(llama3: TiktokenTokenizer, talk: Dialog, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        chat_format(llama3).encode(talk)


@pytest.mark.parametrize("tag", ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"])
def test_a_llama_2_text_with_a_tag_is_refused_as_unsafe(llama2: SentencePieceTokenizer, tag: str) -> None:
    with pytest.raises(FormatError, match=r"message 2 \(user\): contains .*could forge a turn"):
        chat_format(llama2).encode(dialog(("system", "ok"), ("user", f"a {tag} b")))


def test_tools_need_llama_3_1(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer) -> None:
    for form in (chat_format(llama2), chat_format(llama3, "llama3")):
        with pytest.raises(FormatError, match=r"no tools. Use llama3.1"):
            form.encode(dialog(("user", "a"), ("assistant", CALL)))
        with pytest.raises(FormatError, match="has tools, which the format"):
            form.encode(dialog(("user", "a"), tools=(WEATHER,)))


def test_there_must_be_something_to_answer(llama3: TiktokenTokenizer) -> None:
    with pytest.raises(FormatError, match="nothing to answer"):
        chat_format(llama3).encode(dialog(("user", "a"), ("assistant", "b")), generate=True)


def test_an_empty_answer_in_the_history_does_not_end_a_chat(llama3: TiktokenTokenizer) -> None:
    talk = dialog(("user", "a"), ("assistant", ""), ("user", "b"))
    chat_format(llama3).verify(talk, generate=True)


def test_a_format_that_the_tokenizer_cannot_write_is_refused(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer) -> None:
    with pytest.raises(FormatError, match=r"needs the special token <\|start_header_id\|>"):
        chat_format(llama2, "llama3")
    with pytest.raises(FormatError, match="needs the special token <s>"):
        chat_format(llama3, "llama2")
    with pytest.raises(FormatError, match=r"'chatml': is unknown; accepted: llama2, llama3, llama3.1"):
        chat_format(llama3, "chatml")  # type: ignore[arg-type]


def test_a_format_is_known_by_its_template(llama3: TiktokenTokenizer) -> None:
    for name in ("llama3", "llama3.1"):
        assert format_named_by(chat_format(llama3, name).template) == name  # type: ignore[arg-type]
    assert format_named_by("{{ messages }}") is None
    assert chat_format(llama3, "llama3").fingerprint != chat_format(llama3).fingerprint


def test_the_shape_of_a_dialog_is_its_roles_and_kinds_of_tools() -> None:
    assert shape_of(dialog(("user", "a"), ("assistant", "b"))) == shape_of(dialog(("user", "c"), ("assistant", "d")))
    assert shape_of(dialog(("user", "a"))) != shape_of(dialog(("user", "a"), tools=(WEATHER,))) != shape_of(dialog(("user", "a"), tools=(SEARCH,)))


def test_a_template_that_disagrees_is_caught(llama3: TiktokenTokenizer) -> None:
    form = chat_format(llama3)
    form.template = form.template.replace("<|eot_id|>", "<|eom_id|>")
    with pytest.raises(FormatError, match="d1: the chat template writes"):
        form.verify(TALK)
