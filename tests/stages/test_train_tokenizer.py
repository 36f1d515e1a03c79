from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.base.records import document_to_row, write_jsonl
from herdling.stages.registry import StageRun
from herdling.stages.train_tokenizer import TrainTokenizer
from herdling.tokenizer import load_tokenizer
from herdling.types import Document

TEXT = "def add(first, second):\n    return first + second  # 12345 plus 678\n" * 40


def data(folder: Path, *, texts: int = 4) -> Path:
    rows = (document_to_row(Document(text=TEXT + f"name{i} = {i}\n", id=str(i), source="code")) for i in range(texts))
    write_jsonl(folder / "documents" / "code.train.jsonl", rows)
    write_jsonl(folder / "documents" / "code.validation.jsonl", [document_to_row(Document(text="zqzqzqzq " * 500, id="held", source="code"))])
    return folder


def run(folder: Path, tmp_path: Path, **settings: object) -> StageRun:
    stage_run = StageRun(name="train_tokenizer", folder=tmp_path / "out", seed=1, inputs={"@data": folder})
    stage_run.folder.mkdir(exist_ok=True)
    TrainTokenizer(data="@data", **settings).run(stage_run)  # type: ignore[arg-type]
    return stage_run


@pytest.mark.parametrize("family", ["llama2", "llama3"])
def test_it_saves_a_tokenizer_of_the_family_that_loads_and_round_trips(tmp_path: Path, family: str) -> None:
    made = run(data(tmp_path / "data"), tmp_path, family=family, vocab_size=300)
    tokenizer = load_tokenizer(made.folder)
    assert (tokenizer.family, tokenizer.vocab_size) == (family, 300)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert made.recorded["tokenizer"] == tokenizer.fingerprint


def test_it_never_learns_from_held_out_text(tmp_path: Path) -> None:
    made = run(data(tmp_path / "data"), tmp_path, vocab_size=300)
    tokenizer = load_tokenizer(made.folder)
    assert not any(b"zq" in tokenizer.token_bytes(index) for index in range(tokenizer.vocab_size))


def test_max_bytes_limits_what_is_read_and_the_ledger_says_so(tmp_path: Path) -> None:
    made = run(data(tmp_path / "data", texts=40), tmp_path, vocab_size=290, max_bytes=20_000)
    ledger = (made.folder / "ledger.json").read_text()
    assert '"beyond max_bytes"' in ledger


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no training documents"):
        run(tmp_path / "empty", tmp_path)
