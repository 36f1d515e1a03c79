from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from herdling.base.errors import TokenizerError
from herdling.tokenizer import sentencepiece as ours
from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from tests.tokenizer.test_base import TEXT


@pytest.fixture(scope="module")
def library(llama2: SentencePieceTokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=llama2.model)


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_words_encoded_one_by_one_are_the_librarys_ids(llama2: SentencePieceTokenizer, library: sentencepiece.SentencePieceProcessor, text: str) -> None:
    assert llama2.encode(text) == library.encode(text)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(3, 699)))
def test_any_ids_decode_as_the_library_decodes_them(llama2: SentencePieceTokenizer, library: sentencepiece.SentencePieceProcessor, ids: list[int]) -> None:
    assert llama2.decode(ids) == library.decode(ids)


def test_real_text_has_the_librarys_ids(llama2: SentencePieceTokenizer, library: sentencepiece.SentencePieceProcessor) -> None:
    text = inspect.getsource(inspect)
    assert llama2.encode(text) == library.encode(text)


def test_new_words_met_by_many_threads_have_the_librarys_ids(llama2: SentencePieceTokenizer, library: sentencepiece.SentencePieceProcessor) -> None:
    texts = inspect.getsource(inspect).split("\n\n") + [f" {number}  x{number} \n\n  y" for number in range(2 * ours._WORDS_A_CALL * ours._CALLS_FOR_THREADS)]
    for threads in (1, 3):
        llama2.forget()
        assert [ids.tolist() for ids in llama2.encode_batch(texts, threads)] == library.encode(texts)


def test_a_typed_u2581_joins_what_a_space_would_in_a_file_that_takes_it_for_one(tmp_path: Path) -> None:
    name = str(tmp_path / "model")
    options: dict[str, Any] = {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True, "minloglevel": 2, "allow_whitespace_only_pieces": True}
    source = iter(inspect.getsource(inspect).splitlines())
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=source, model_prefix=name, normalization_rule_name="identity", remove_extra_whitespaces=False, **options
    )
    tokenizer = SentencePieceTokenizer(Path(f"{name}.model").read_bytes())
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    texts = ["a▁ if", "a ▁if", "if▁▁", "▁ ▁  ▁def▁", "  ", "def if\n    def", "▁\n ▁"]
    assert tokenizer.rule == "identity"
    assert [tokenizer.encode(text) for text in texts] == library.encode(texts)
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == library.encode(texts)


def test_remembered_words_are_forgotten_before_they_fill_the_memory(llama2: SentencePieceTokenizer) -> None:
    assert llama2._words is not None
    for number in range(12):
        text = " ".join(f"{number}x{index}" for index in range(40_000))
        assert llama2.decode(llama2.encode(text)) == text
        assert len(llama2._words.known) <= ours._MAX_SIZE / ours._ENTRY
    assert len(llama2._words.known) < 400_000
    llama2.forget()
    assert not llama2._words.known


def test_digits_stand_alone(llama2: SentencePieceTokenizer) -> None:
    assert [llama2.token_text(index) for index in llama2.encode("x2024")][-4:] == ["2", "0", "2", "4"]


def test_each_text_between_special_tokens_has_its_own_added_space(llama2: SentencePieceTokenizer) -> None:
    ids = [*llama2.encode("one", bos=True, eos=True), *llama2.encode(" two", bos=True)]
    assert llama2.decode(ids, skip_special=False) == "<s>one</s><s> two"


@pytest.mark.parametrize("data", [b"", b"\n\x05hello", b"\n\xff\xff\xff", bytes(100)])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(TokenizerError, match="there: is no SentencePiece model"):
        SentencePieceTokenizer(data, "there")


def test_another_kind_of_model_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    prefix = tmp_path_factory.mktemp("unigram") / "unigram"
    lines = iter([f"{word} {word}s" for word in dir(inspect)])
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_prefix=str(prefix), model_type="unigram", vocab_size=60, minloglevel=2)
    with pytest.raises(TokenizerError, match="not a BPE model"):
        SentencePieceTokenizer(prefix.with_suffix(".model").read_bytes())
