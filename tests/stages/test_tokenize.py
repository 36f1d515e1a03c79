"""The stage tokenize: every document of every source, once, also after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herdling.base.decode import decode
from herdling.base.errors import DataError, Stopped
from herdling.base.records import document_to_row, write_jsonl
from herdling.data.token_shards import open_shards
from herdling.stages.registry import StageRun
from herdling.stages.tokenize import Tokenize
from herdling.tokenizer import load_tokenizer
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import Document
from tests.data.toy_tokens import random_texts


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    train_byte_level_bpe(iter(random_texts(200)), 300).save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a.train", "a.validation", "b.train", "b.validation")):
        rows = [document_to_row(Document(text=text, id=str(index), source=name[0])) for index, text in enumerate(random_texts(30, seed))]
        write_jsonl(tmp_path / "data" / "documents" / f"{name}.jsonl", rows if name != "b.validation" else [])
    return tmp_path / "data"


def run_of(folder: Path, data: Path, tokenizer: Path, **options: object) -> StageRun:
    folder.mkdir(exist_ok=True)
    return StageRun(name="tokenize", folder=folder, seed=1, inputs={"@data": data, "@tokenizer": tokenizer}, **options)  # type: ignore[arg-type]


STAGE = decode(Tokenize, {"data": "@data", "tokenizer": "@tokenizer"}, "")


def test_the_texts_come_back_from_the_shards_and_the_tokenizer_is_recorded(tmp_path: Path, data: Path, tokenizer: Path) -> None:
    run = run_of(tmp_path / "tokens", data, tokenizer)
    STAGE.run(run)
    loaded = load_tokenizer(tokenizer)
    shards = open_shards(run.folder, "train", tokenizer=loaded.fingerprint)
    assert list(shards) == ["a", "b"]
    assert [loaded.decode(shards["a"].document(index)) for index in range(30)] == random_texts(30, 0)
    assert list(open_shards(run.folder, "validation", tokenizer=loaded.fingerprint)) == ["a"]
    assert run.recorded == {"tokenizer": loaded.fingerprint}
    ledger = json.loads((run.folder / "ledger.json").read_text())
    assert ledger["kept"] == 90
    assert ledger["counts"]["a.train text bytes"] == sum(map(len, random_texts(30, 0)))
    assert run.summary["a_train_tokens"] == shards["a"].num_tokens


def test_a_stopped_run_goes_on_with_the_sources_that_are_not_finished(tmp_path: Path, data: Path, tokenizer: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 45

    folder = tmp_path / "tokens"
    with pytest.raises(Stopped, match="the same command goes on"):
        STAGE.run(run_of(folder, data, tokenizer, stop_requested=stop))
    kept = (folder / "a.train" / "tokens.bin").stat()
    STAGE.run(run_of(folder, data, tokenizer))
    assert (folder / "a.train" / "tokens.bin").stat().st_ino == kept.st_ino
    STAGE.run(run_of(tmp_path / "again", data, tokenizer))
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert all((folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


def test_changed_documents_are_encoded_again(tmp_path: Path, data: Path, tokenizer: Path) -> None:
    folder = tmp_path / "tokens"
    STAGE.run(run_of(folder, data, tokenizer))
    write_jsonl(data / "documents" / "a.train.jsonl", [document_to_row(Document(text="new", id="0", source="a"))])
    STAGE.run(run_of(folder, data, tokenizer))
    loaded = load_tokenizer(tokenizer)
    shards = open_shards(folder, "train", tokenizer=loaded.fingerprint)
    assert loaded.decode(shards["a"].document(0)) == "new"


def test_no_documents_is_an_error(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "data" / "documents").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no documents to tokenize"):
        STAGE.run(run_of(tmp_path / "tokens", tmp_path / "data", tokenizer))
