"""Token ids against Meta's tokenizers, llama.cpp's vectors, transformers, tiktoken, sentencepiece and a plain BPE trainer.

Reads the kit (environment variable HERDLING_KIT, else ../shared/kit beside the project); what needs it is skipped, saying so, where it is absent.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from herdling.tokenizer import Tokenizer, load_tokenizer
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.chat_templates import render
from herdling.tokenizer.export import from_byte_level
from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece
from herdling.types import Dialog, Message, ToolCall
from tests.tokenizer import plain_bpe
from tests.tokenizer.conftest import TEXTS

KIT = Path(os.environ.get("HERDLING_KIT") or Path(__file__).parents[2] / "../shared/kit")
FILES = KIT / "tokenizers"
needs_kit = pytest.mark.skipif(not FILES.is_dir(), reason=f"the kit is not at {KIT} (set HERDLING_KIT)")
FAMILIES = ["llama2", "llama3"]
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def vectors(name: str) -> Any:
    return json.loads((FILES / "vectors" / f"{name}.json").read_text(encoding="utf-8"))


def dialog(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> Dialog:
    said = tuple(Message(role=message["role"], content=message["content"]) for message in messages)
    return Dialog(id="kit", messages=said, tools=tuple(tools or ()))


@pytest.fixture(scope="module")
def meta() -> dict[str, Tokenizer]:
    return {family: load_tokenizer(FILES / f"{family}.tokenizer.model") for family in FAMILIES}


@pytest.fixture(scope="module")
def from_json(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("json") / "tokenizer.json"
    path.write_bytes(gzip.decompress((FILES / "llama_hf_tokenizer.json.gz").read_bytes()))
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def saved(meta: dict[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {family: tmp_path_factory.mktemp("saved") / family for family in FAMILIES}
    for family, folder in folders.items():
        meta[family].save(folder, chat_format(meta[family]))
    return folders


@needs_kit
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kit_vector_has_metas_ids(meta: dict[str, Tokenizer], family: str) -> None:
    rows, tokenizer = vectors(family)["vectors"], meta[family]
    assert len(rows) == 210
    for row in rows:
        assert tokenizer.encode(row["text"]) == row["ids"], row
        assert tokenizer.decode(row["ids"]) == row["decoded"], row
        if "ids_special_parsed" in row:
            assert tokenizer.encode_rendered(row["text"]) == row["ids_special_parsed"]
    batch = tokenizer.encode_batch([row["text"] for row in rows])
    assert [ids.tolist() for ids in batch] == [row["ids"] for row in rows]


@needs_kit
@pytest.mark.parametrize("family", FAMILIES)
def test_any_ids_decode_as_metas_do(meta: dict[str, Tokenizer], family: str) -> None:
    rows = vectors(family)["decode"]
    assert len(rows) == 60
    for row in rows:
        assert meta[family].decode(row["ids"]) == row.get("decoded", row.get("decoded_replace"))
        if "bytes_hex" in row:
            assert meta[family].decode_bytes(row["ids"]).hex() == row["bytes_hex"]


@needs_kit
@pytest.mark.parametrize(("family", "name"), [("llama2", "llama2"), ("llama3", "llama3"), ("llama3", "llama3.1")])
def test_every_kit_chat_has_metas_ids(meta: dict[str, Tokenizer], family: str, name: Any) -> None:
    form = chat_format(meta[family], name)
    for row in vectors(family)["chat"]:
        assert list(form.encode(dialog(row["messages"]), generate=True).ids) == row["ids"]
        form.verify(dialog(row["messages"]), generate=True)


@needs_kit
@pytest.mark.parametrize(("family", "kind"), [("llama2", "spm"), ("llama3", "bpe")])
def test_llama_cpps_vectors_have_its_ids(meta: dict[str, Tokenizer], family: str, kind: str) -> None:
    texts = (FILES / f"ggml-vocab-llama-{kind}.gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = (FILES / f"ggml-vocab-llama-{kind}.gguf.out").read_text().split("\n")
    assert len(texts) == len(lines) == 47  # 46 and an empty one at the end
    for text, line in zip(texts, lines, strict=True):
        assert meta[family].encode(text) == [int(index) for index in line.split()], text


@needs_kit
def test_metas_own_test_passes(meta: dict[str, Tokenizer]) -> None:
    official, tokenizer = vectors("llama3_official"), meta["llama3"]
    for row in official["encode"]:
        assert tokenizer.encode(row["text"], bos=row["bos"], eos=row["eos"]) == row["ids"]
        assert tokenizer.decode(row["ids"], skip_special=False) == row["decoded"]
    form = chat_format(tokenizer)
    for row in official["encode_message"]:
        assert list(form.encode(dialog([row])).ids) == [tokenizer.bos_id, *row["ids"]]
    for row in official["encode_dialog_prompt"]:
        # Meta's test writes two messages of which the last is the user's, then the assistant's header.
        assert list(form.encode(dialog(row["messages"]), generate=True).ids) == row["ids"]


@needs_kit
@pytest.mark.parametrize(("name", "form_name"), [("meta-llama/Llama-3.1-8B-Instruct", "llama3.1"), ("llama", "llama2")])
def test_published_templates_write_what_ours_write(meta: dict[str, Tokenizer], name: str, form_name: Any) -> None:
    with gzip.open(FILES / "vectors/chat_templates.jsonl.gz", "rt", encoding="utf-8") as lines:
        row = next(row for row in map(json.loads, lines) if row["name"] == name)
    tokenizer = meta["llama2" if form_name == "llama2" else "llama3"]
    form, talk = chat_format(tokenizer, form_name), dialog(row["data"]["messages"], row["data"].get("tools"))
    assert render(form.template, talk, bos=row["data"]["bos_token"], eos="</s>", generate=True) == row["target"]
    assert list(form.encode(talk, generate=True).ids) == tokenizer.encode_rendered(row["target"])


@needs_kit
def test_a_hugging_face_json_is_the_same_tokenizer(meta: dict[str, Tokenizer], from_json: Tokenizer) -> None:
    assert from_json.fingerprint == meta["llama2"].fingerprint
    for row in vectors("llama2")["vectors"]:
        assert from_json.encode(row["text"]) == row["ids"]


@needs_kit
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_tokenizer_loads_from_every_form(meta: dict[str, Tokenizer], saved: dict[str, Path], family: str) -> None:
    native = "tokenizer.model" if family == "llama2" else "original/tokenizer.model"
    assert (saved[family] / native).read_bytes() == (FILES / f"{family}.tokenizer.model").read_bytes()
    for form in (saved[family], saved[family] / native, saved[family] / "tokenizer.json"):
        assert load_tokenizer(form).fingerprint == meta[family].fingerprint


@needs_kit
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_json_gives_metas_ids_in_the_tokenizers_library(saved: dict[str, Path], family: str, meta: dict[str, Tokenizer]) -> None:
    theirs = tokenizers.Tokenizer.from_file(str(saved[family] / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for row in vectors(family)["vectors"]:
        assert theirs.encode(row["text"], add_special_tokens=False).ids == row["ids"], row
    text = (FILES / "botchan.txt").read_text(encoding="utf-8")
    assert theirs.encode(text, add_special_tokens=False).ids == meta[family].encode(text)


@needs_kit
def test_other_model_files_of_both_kinds_load(tmp_path: Path) -> None:
    small = load_tokenizer(FILES / "torchtune_tiktoken_small.model")
    assert (small.family, small.vocab_size) == ("llama3", 2000 + 256)
    stories = load_tokenizer(KIT / "checkpoints/tok512.model")
    assert (stories.family, stories.vocab_size) == ("llama2", 512)
    assert stories.encode("Once upon a time", bos=True) == [1, 403, 407, 261, 378]
    for tokenizer in (small, stories):
        tokenizer.save(tmp_path / tokenizer.family)
        assert load_tokenizer(tmp_path / tokenizer.family).fingerprint == tokenizer.fingerprint
        assert load_tokenizer(tmp_path / tokenizer.family / "tokenizer.json").fingerprint == tokenizer.fingerprint


@needs_kit
def test_the_plain_trainer_finds_the_courses_merges_and_ours_finds_the_plain_ones() -> None:
    corpus = (FILES / "cs336_corpus.en").read_text(encoding="utf-8")
    lines = (FILES / "cs336_train-bpe-reference-merges.txt").read_text(encoding="utf-8").splitlines()
    expected = [tuple(from_byte_level(half) for half in line.split(" ")) for line in lines]
    parts = corpus.split("<|endoftext|>")
    assert plain_bpe.train(parts, GPT2_PATTERN, len(expected), plain_bpe.greatest_bytes) == expected
    plain = plain_bpe.train(parts, GPT2_PATTERN, len(expected), plain_bpe.smallest_ids)
    ours = train_byte_level_bpe(parts, 256 + len(expected) + 16, pattern=GPT2_PATTERN)
    assert [ours.token_bytes(256 + index) for index in range(len(expected))] == [left + right for left, right in plain]


TALKS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi"}],
    [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "  Hi \n"},
        {"role": "assistant", "content": "Hello\n"},
        {"role": "user", "content": "x"},
    ],
]
TOOL = {"type": "function", "function": {"name": "weather", "description": "Naïve <weather> & 'more'", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_our_folder_with_our_ids(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer: Tokenizer = train_sentencepiece(TEXTS, 700) if family == "llama2" else train_byte_level_bpe(TEXTS, 700)
    form = chat_format(tokenizer)
    tokenizer.save(tmp_path, form)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (len(theirs), theirs.bos_token_id, theirs.eos_token_id) == (700, tokenizer.bos_id, form.end_of_turn_id)
    assert theirs.pad_token_id == (None if family == "llama2" else tokenizer.pad_id)
    for text in (*TEXTS, "naïve ▁ \ufdd0 🦙\n\n  2024", " ", ""):
        assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert theirs("hello").input_ids == tokenizer.encode("hello", bos=True)
    for talk in TALKS:
        assert theirs.apply_chat_template(talk, add_generation_prompt=True, return_dict=False) == list(form.encode(dialog(talk), generate=True).ids)


def test_transformers_writes_tool_calls_with_our_ids(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = train_byte_level_bpe(TEXTS, 700)
    form = chat_format(tokenizer)
    tokenizer.save(tmp_path, form)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for built_in in ([], [{"type": "function", "function": {"name": "wolfram_alpha"}}]):
        for name, arguments in (("weather", {"city": "Köln", "days": 3}), ("wolfram_alpha", {"query": 'say "x"'})):
            call = {"type": "function", "function": {"name": name, "arguments": arguments}}
            rows = [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "  rain\n"},
            ]
            said = Message(role="assistant", content="", tool_calls=(ToolCall(id="c", name=name, arguments=arguments),))
            talk = Dialog(id="d", messages=(Message(role="user", content="Weather?"), said, Message(role="tool", content="  rain\n")), tools=(TOOL, *built_in))
            ids = theirs.apply_chat_template(rows, tools=[TOOL, *built_in], add_generation_prompt=True, return_dict=False)
            assert ids == list(form.encode(talk, generate=True).ids)
