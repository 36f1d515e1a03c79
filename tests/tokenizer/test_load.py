from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers

from herdling.base.errors import TokenizerError
from herdling.tokenizer import Tokenizer, load_tokenizer
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.export import all_merges, byte_level, check_same_ids, from_byte_level
from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from herdling.tokenizer.tiktoken import TiktokenTokenizer
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece
from tests.tokenizer.conftest import TEXTS

TEXT = "def f(x):\n    return '<|eot_id|> </s>'  # naïve ▁ 2024 🦙\n"


def native_name(tokenizer: Tokenizer) -> str:
    return "tokenizer.model" if tokenizer.family == "llama2" else "original/tokenizer.model"


def test_every_form_loads_as_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for form in (tmp_path, tmp_path / native_name(tokenizer), tmp_path / "tokenizer.json"):
        loaded = load_tokenizer(form)
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.vocab_size == tokenizer.vocab_size
        assert loaded.special_ids == tokenizer.special_ids
        assert loaded.encode(TEXT) == tokenizer.encode(TEXT)


def test_the_tokenizers_library_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for text in (*TEXTS, TEXT, *TEXT.split(" ")):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ids == tokenizer.encode(text)
        assert theirs.decode(ids) == text
    assert theirs.encode("hello").ids == tokenizer.encode("hello", bos=True)


def test_a_saved_base_tokenizer_ends_texts_and_a_chat_tokenizer_ends_turns(llama3: TiktokenTokenizer, tmp_path: Path) -> None:
    llama3.save(tmp_path / "base")
    chat = chat_format(llama3)
    llama3.save(tmp_path / "chat", chat)
    base, chatty = (json.loads((tmp_path / name / "tokenizer_config.json").read_text()) for name in ("base", "chat"))
    assert (base["eos_token"], base["pad_token"], "chat_template" in base) == ("<|end_of_text|>", "<|finetune_right_pad_id|>", False)
    assert (chatty["eos_token"], chatty["pad_token"], chatty["chat_template"]) == ("<|eot_id|>", "<|finetune_right_pad_id|>", chat.template)
    assert load_tokenizer(tmp_path / "chat").eos_id == llama3.eos_id


def test_saving_twice_writes_the_same_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "a")
    load_tokenizer(tmp_path / "a").save(tmp_path / "b")
    for file in (path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_files_of_two_tokenizers_in_one_folder_are_refused(llama2: SentencePieceTokenizer, llama3: TiktokenTokenizer, tmp_path: Path) -> None:
    others = {"llama2": train_sentencepiece(TEXTS[1:], 700), "llama3": train_byte_level_bpe(TEXTS[1:], 700)}
    for tokenizer in (llama2, llama3):
        home, other = tmp_path / tokenizer.family, tmp_path / f"other {tokenizer.family}"
        tokenizer.save(home)
        others[tokenizer.family].save(other)
        (home / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
        with pytest.raises(TokenizerError, match="two different tokenizers"):
            load_tokenizer(home)


def test_settings_written_for_another_tokenizer_are_refused(llama3: TiktokenTokenizer, tmp_path: Path) -> None:
    llama3.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(path.read_text().replace(llama3.fingerprint, "0" * 64))
    with pytest.raises(TokenizerError, match="was written for the tokenizer 000000000000"):
        load_tokenizer(tmp_path)
    path.write_text("{")
    with pytest.raises(TokenizerError, match="is damaged"):
        load_tokenizer(tmp_path)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"gone.model: is not there"):
        load_tokenizer(tmp_path / "gone.model")
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "empty.model").write_bytes(b"")
    with pytest.raises(TokenizerError, match=r"empty.model: is empty"):
        load_tokenizer(tmp_path / "empty.model")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"type": "Unigram"}}', '{"model": {"type": "BPE"}}', "{"])
def test_a_json_that_is_no_llama_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer.json: "):
        load_tokenizer(path)


def test_a_json_that_gives_other_ids_is_refused(llama3: TiktokenTokenizer, tmp_path: Path) -> None:
    llama3.save(tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    document["model"]["merges"] = document["model"]["merges"][:100]
    document["model"]["ignore_merges"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(TokenizerError, match="the tokenizers library gives"):
        check_same_ids(llama3, json.dumps(document), "tokenizer.json")
    with pytest.raises(TokenizerError, match="the tokenizers library gives"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_merges_are_every_split_by_priority() -> None:
    assert all_merges([b"ab", b"abc"], {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"abc": 4, b"bc": 5}) == [(b"a", b"b"), (b"a", b"bc"), (b"ab", b"c")]


def test_bytes_are_written_in_gpt2s_characters() -> None:
    assert byte_level(b" a\n\x00\xff") == "ĠaĊĀÿ"
    assert from_byte_level(byte_level(bytes(range(256)))) == bytes(range(256))
