"""Token shards: the documents come back as they were, and only for the tokenizer that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from herdling.base.errors import DataError, LineageError
from herdling.data import token_shards
from herdling.data.token_shards import TokenShards, finished_shards, open_shards, write_shards
from herdling.types import Document
from tests.data.toy_tokens import ByteTokenizer, make_shards, random_texts


def test_documents_come_back_between_begin_and_end_with_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_shards, "PORTION_CHARS", 500)  # several portions
    texts = ["é😀", "", *random_texts(30)]
    tokenizer = ByteTokenizer()
    written = write_shards(tmp_path / "a.train", "a", (Document(text=text, id="", source="a") for text in texts), tokenizer)
    shards = TokenShards(written.folder)
    assert [tokenizer.decode(shards.document(index)) for index in range(shards.num_documents)] == texts
    assert all(document[0] == 256 and document[-1] == 257 for document in map(shards.document, range(shards.num_documents)))
    assert shards.text_bytes.tolist() == [len(text.encode()) for text in texts]
    assert shards.num_bytes == shards.text_bytes.sum()
    assert shards.num_tokens == shards.num_bytes + 2 * len(texts) == len(shards.tokens)
    assert shards.lengths.sum() == shards.num_tokens


@pytest.mark.parametrize(("vocab_size", "expected"), [(65_536, "<u2"), (65_537, "<u4"), (128_256, "<u4")])
def test_two_bytes_a_token_while_the_vocabulary_allows_it(tmp_path: Path, vocab_size: int, expected: str) -> None:
    tokenizer = ByteTokenizer(vocab_size=vocab_size, bos_id=vocab_size - 1)
    shards = make_shards(tmp_path, tokenizer=tokenizer)
    assert shards.tokens.dtype == np.dtype(expected)
    assert shards.document(3)[0] == vocab_size - 1


def test_no_documents_make_an_empty_shard(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, count=0)
    assert (shards.num_tokens, shards.num_documents, len(shards.starts)) == (0, 0, 0)


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    make_shards(tmp_path, "a")
    assert list(open_shards(tmp_path, "train", tokenizer="bytes")) == ["a"]
    with pytest.raises(LineageError, match=r"made by the tokenizer bytes, the model's is other.*run the stage tokenize again"):
        open_shards(tmp_path, "train", tokenizer="other")
    with pytest.raises(DataError, match="no tokens of the split 'validation'"):
        open_shards(tmp_path, "validation", tokenizer="bytes")


def test_the_fingerprint_follows_tokens_borders_and_tokenizer(tmp_path: Path) -> None:
    prints = {
        make_shards(tmp_path / str(index), **options).fingerprint  # type: ignore[arg-type]
        for index, options in enumerate([{}, {}, {"seed": 1}, {"count": 39}, {"tokenizer": ByteTokenizer(fingerprint="other")}])
    }
    assert len(prints) == 4


def test_a_shard_cut_short_is_refused(tmp_path: Path) -> None:
    shards = make_shards(tmp_path)
    path = shards.folder / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"tokens\.bin: is missing or cut short, expected [\d,]+ bytes"):
        TokenShards(shards.folder)


def test_a_stop_in_the_middle_leaves_no_shard_and_the_next_run_makes_the_same(tmp_path: Path) -> None:
    def documents(stop: bool):  # type: ignore[no-untyped-def]
        for index, text in enumerate(random_texts(40)):
            if stop and index == 20:
                raise KeyboardInterrupt
            yield Document(text=text, id="", source="books")

    folder = tmp_path / "books.train"
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, "books", documents(True), ByteTokenizer(), made_from="x")
    assert finished_shards(folder, tokenizer="bytes", made_from="x") is None
    write_shards(folder, "books", documents(False), ByteTokenizer(), made_from="x")
    done = finished_shards(folder, tokenizer="bytes", made_from="x")
    assert done is not None
    assert done.fingerprint == make_shards(tmp_path / "other").fingerprint
    assert finished_shards(folder, tokenizer="bytes", made_from="changed") is None
    assert finished_shards(folder, tokenizer="other", made_from="x") is None
