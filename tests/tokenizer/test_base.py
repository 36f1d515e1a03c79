from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdling.base.errors import TokenizerError
from herdling.tokenizer import Tokenizer
from herdling.tokenizer.base import parts_of_tokens, split_raw_bytes
from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from herdling.tokenizer.tiktoken import TiktokenTokenizer

AWKWARD = st.sampled_from(" \n\t▁\ufdd0\ufdd1\ufdd2\x00<|>s/0é🦙")
SPACED = st.lists(st.sampled_from([" ", "  ", "\n", "\t", "a", "llama ", "\r\n", "12", "▁", "<s>", "<|eot_id|>", "def f():\n    pass"])).map("".join)
TEXT = st.one_of(st.text(), st.text(AWKWARD), SPACED)
BYTES = st.one_of(st.binary(), st.lists(st.sampled_from([b"\xff", b"\xe2\x96", b" a", b"\xe2\x96\x81", b"\n", b"\x80\x80"])).map(b"".join))


@settings(max_examples=400, deadline=None)
@given(TEXT)
def test_every_text_comes_back(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer, text: str) -> None:
    for tokenizer in (llama2, llama3):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(ids, errors="strict") == text
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert not set(ids) & set(tokenizer.special_ids.values())
        assert tokenizer.encode_batch([text, text], threads=2)[1].tolist() == ids


@settings(max_examples=200, deadline=None)
@given(BYTES)
def test_bytes_that_are_no_text_come_back(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for tokenizer in (llama2, llama3):
        ids = tokenizer.encode(text)
        assert tokenizer.decode_bytes(ids) == data
        assert tokenizer.decode(ids, errors="surrogateescape") == text
        assert tokenizer.encode_batch([text])[0].tolist() == ids


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=5))
def test_parts_are_encoded_as_one_text_and_traced(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer, parts: list[str]) -> None:
    for tokenizer in (llama2, llama3):
        ids, places = tokenizer.encode_parts(parts)
        assert ids == tokenizer.encode("".join(parts))
        assert places == sorted(places)
        assert len(places) == len(ids)
        for end in range(len(ids)):  # the last byte of a token lies in its part
            before = len(tokenizer.decode_bytes(ids[: end + 1]))
            limits = np.cumsum([len(part.encode()) for part in parts])
            if before > len(tokenizer.decode_bytes(ids[:end])) and "▁" not in "".join(parts) and "\ufdd0" not in "".join(parts):
                assert places[end] == int(np.searchsorted(limits, before))


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"character 3 is the lone surrogate U\+D83E"):
        tokenizer.encode("abc\ud83e")
    with pytest.raises(TokenizerError, match="character 4"):
        tokenizer.encode_batch(["fine", "a\udcffbc\ud83e"])


def test_bos_and_eos_are_added_on_demand_only(tokenizer: Tokenizer) -> None:
    plain = tokenizer.encode("some text")
    assert tokenizer.encode("some text", bos=True, eos=True) == [tokenizer.bos_id, *plain, tokenizer.eos_id]
    assert tokenizer.encode("", bos=True) == [tokenizer.bos_id]


def test_names_of_special_tokens_are_text_when_a_user_types_them(tokenizer: Tokenizer) -> None:
    special = set(tokenizer.special_ids.values())
    for name in tokenizer.special_ids:
        ids = tokenizer.encode(f"before {name} after")
        assert not special & set(ids)
        assert tokenizer.decode(ids) == f"before {name} after"


def test_rendered_text_may_name_special_tokens(tokenizer: Tokenizer) -> None:
    for name, index in tokenizer.special_ids.items():
        assert index in tokenizer.encode_rendered(f"before{name}after")


def test_padding_never_ends_a_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.pad_id not in (tokenizer.eos_id, tokenizer.bos_id)


def test_decoding_shows_or_skips_special_tokens(tokenizer: Tokenizer) -> None:
    names = {index: name for name, index in tokenizer.special_ids.items()}
    ids = tokenizer.encode("two words", bos=True, eos=True)
    assert tokenizer.decode(ids) == "two words"
    assert tokenizer.decode(np.array(ids)) == "two words"
    assert tokenizer.decode(ids, skip_special=False) == f"{names[tokenizer.bos_id]}two words{names[tokenizer.eos_id]}"


@pytest.mark.parametrize("bad", [-1, 700, 10**12])
def test_an_unknown_id_is_named(tokenizer: Tokenizer, bad: int) -> None:
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with pytest.raises(TokenizerError, match=f"token id {bad}: is outside the vocabulary"):
            decode([5, bad])


def test_tokens_are_shown_whole_or_as_escapes(tokenizer: Tokenizer) -> None:
    euro = tokenizer.encode("€")
    assert "".join(tokenizer.token_text(index) for index in euro).strip() in ("€", r"\xe2\x82\xac")
    assert b"".join(tokenizer.token_bytes(index) for index in euro).strip() == "€".encode()
    name, index = next(iter(tokenizer.special_ids.items()))
    assert tokenizer.token_text(index) == name


def test_a_batch_keeps_its_order_whatever_the_threads(tokenizer: Tokenizer) -> None:
    texts = [f"text number {number} " * (number % 7) for number in range(300)]
    for threads in (None, 1, 3):
        assert [ids.tolist() for ids in tokenizer.encode_batch(texts, threads)] == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch([]) == []


def test_raw_bytes_are_cut_out_of_text() -> None:
    assert split_raw_bytes("a\udcff\udc80b") == ["a", b"\xff\x80", "b"]


def test_a_token_belongs_to_the_part_of_its_last_byte() -> None:
    assert parts_of_tokens([2, 2, 1], [1, 0, 3, 1]) == [2, 2, 3]
