from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdling.generate.stream import TextStream
from tests.generate.toy_model import toy_tokenizer


def pieces(text: str, stop: tuple[str, ...] = (), family: Literal["llama2", "llama3"] = "llama3") -> tuple[list[str], TextStream]:
    tokenizer = toy_tokenizer(family)
    stream = TextStream(tokenizer, [tokenizer.bos_id], stop)
    said = [stream.push(token) for token in tokenizer.encode(text)]
    return [*said, stream.finish()], stream


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("family", ["llama2", "llama3"])
def test_pieces_join_to_the_text_and_hold_whole_characters(family: Literal["llama2", "llama3"], text: str) -> None:
    said, stream = pieces(text, family=family)
    assert "".join(said) == text == stream.text
    assert "\ufffd" not in "".join(said) or "\ufffd" in text


def test_rare_characters_that_sentencepiece_writes_as_two_come_back() -> None:
    said, _ = pieces("a▁b\ufdd0c", family="llama2")
    assert "".join(said) == "a▁b\ufdd0c"


def test_a_character_of_several_tokens_comes_at_once() -> None:
    said, _ = pieces("a🐢b")  # not in the training text: four byte tokens
    assert "🐢" in said or any("🐢" in piece for piece in said)
    assert sum(piece == "" for piece in said) >= 3


def test_bytes_that_are_no_text_become_a_replacement_character() -> None:
    tokenizer = toy_tokenizer()
    stream = TextStream(tokenizer)
    turtle = tokenizer.encode("🐢")
    said = [stream.push(token) for token in turtle[:-1]] + [stream.finish()]
    assert set("".join(said)) == {"\ufffd"}


@given(st.text(alphabet="abc ", max_size=30), st.lists(st.text(alphabet="abc ", min_size=1, max_size=4), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_text_ends_before_the_stop_string_that_is_complete_first(text: str, stop: list[str]) -> None:
    said, stream = pieces(text, tuple(stop))
    expected = text
    for end in range(1, len(text) + 1):  # read letter by letter
        ended = [one for one in stop if text[:end].endswith(one)]
        if ended:
            expected = text[: end - max(map(len, ended))]
            break
    assert "".join(said) == expected
    assert stream.stopped == any(one in text for one in stop)


def test_no_beginning_of_a_stop_string_is_ever_shown_when_it_comes() -> None:
    said, stream = pieces("The llama says END now", ("says END",))
    assert "".join(said) == "The llama "
    assert stream.stopped


def test_what_waited_for_a_stop_string_is_shown_at_the_end() -> None:
    said, stream = pieces("The llama says EN", ("says END",))
    assert "".join(said) == "The llama says EN"
    assert not stream.stopped
