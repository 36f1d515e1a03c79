"""Small tokenizers of both families, trained once on text that every Python installation has."""

from __future__ import annotations

import inspect
import textwrap
import tokenize

import pytest

from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from herdling.tokenizer.tiktoken import TiktokenTokenizer
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece

TEXTS = [inspect.getsource(module) for module in (inspect, textwrap, tokenize)]


@pytest.fixture(scope="session")
def llama2() -> SentencePieceTokenizer:
    return train_sentencepiece(TEXTS, 700)


@pytest.fixture(scope="session")
def llama3() -> TiktokenTokenizer:
    return train_byte_level_bpe(TEXTS, 700)


@pytest.fixture(params=["llama2", "llama3"])
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer | TiktokenTokenizer:
    found: SentencePieceTokenizer | TiktokenTokenizer = request.getfixturevalue(request.param)
    return found
