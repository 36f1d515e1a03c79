from __future__ import annotations

from collections.abc import Callable

import pytest
import sentencepiece

from herdling.base.errors import TokenizerError
from herdling.tokenizer import Tokenizer
from herdling.tokenizer.tiktoken import LLAMA3_PATTERN
from herdling.tokenizer.train import _lines, train_byte_level_bpe, train_sentencepiece
from tests.tokenizer import plain_bpe
from tests.tokenizer.conftest import TEXTS

TRAINERS = [train_sentencepiece, train_byte_level_bpe]
Trainer = Callable[..., Tokenizer]


def test_the_rust_trainer_finds_the_merges_of_a_plain_one() -> None:
    text = TEXTS[1]
    expected = plain_bpe.train([text], LLAMA3_PATTERN, 150, plain_bpe.smallest_ids)
    trained = train_byte_level_bpe([text], 256 + 150 + 16)
    assert [trained.token_bytes(256 + index) for index in range(150)] == [left + right for left, right in expected]


@pytest.mark.parametrize("train", TRAINERS)
def test_the_same_texts_give_the_same_tokenizer(train: Trainer) -> None:
    first, second = train(TEXTS[1:], 400), train(iter(TEXTS[1:]), 400)
    assert first.fingerprint == second.fingerprint != train(TEXTS[:1], 400).fingerprint
    assert getattr(first, "model", None) == getattr(second, "model", None)


@pytest.mark.parametrize("train", TRAINERS)
def test_the_vocabulary_has_the_size_asked_for(train: Trainer) -> None:
    assert train(TEXTS, 555).vocab_size == 555


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_empty_texts_are_refused(train: Trainer, texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match="texts: are empty"):
        train(texts, 1000)


@pytest.mark.parametrize("train", TRAINERS)
def test_too_little_text_says_how_many_tokens_it_gives(train: Trainer) -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size = 5,000: the texts \(22 characters\) give only \d+ .*Set vocab_size to (\d+) or less") as caught:
        train(["hello hello help world"], 5000)
    most = int(str(caught.value).split("Set vocab_size to ")[1].split(" ")[0])
    assert train(["hello hello help world"], most).vocab_size == most


@pytest.mark.parametrize(("train", "least"), [(train_byte_level_bpe, 272), (train_sentencepiece, 264)])
def test_too_small_a_vocabulary_says_what_is_needed(train: Trainer, least: int) -> None:
    with pytest.raises(TokenizerError, match=rf"vocab_size = 100: too small.* at least {least}"):
        train(["abcd"], 100)


@pytest.mark.parametrize("train", TRAINERS)
def test_what_is_no_text_is_refused_with_its_number(train: Trainer) -> None:
    with pytest.raises(TokenizerError, match="text 2: cannot be trained on, surrogates not allowed at character 3"):
        train(["fine", "abc\ud800"], 300)


def test_no_piece_of_llama_2_crosses_a_space_or_holds_two_digits() -> None:
    trained = train_sentencepiece(["year 2024 2024 2024 in one line in one line in one line"] * 10, 290)
    library = sentencepiece.SentencePieceProcessor(model_proto=trained.model)
    pieces = [library.id_to_piece(index) for index in range(library.vocab_size()) if not library.is_byte(index)]
    assert not [piece for piece in pieces if "▁" in piece.lstrip("▁")]
    assert not [piece for piece in pieces if any(map(str.isdigit, piece)) and len(piece) > 1]


def test_texts_become_lines_that_sentencepiece_does_not_drop() -> None:
    lines = list(_lines(["a b\tc\r\nd\n\n", "é" * 3000, "x▁y"]))
    assert lines[:3] == ["a b", "c", "d"]
    assert all(0 < len(line.encode()) <= 4192 for line in lines)
    assert sum(line.count("é") for line in lines) == 3000
    assert lines[-2:] == ["x", "y"]
