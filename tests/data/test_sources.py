"""Documents from files, folders and globs: every row comes out or is counted, with its place."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdling.base.errors import DataError, MissingExtraError
from herdling.base.ledger import Ledger
from herdling.data import sources
from herdling.data.rows import read_hub_rows
from herdling.data.sources import files_fingerprint, find_files, read_documents


def texts(spec: object, ledger: Ledger | None = None, **options: object) -> list[str]:
    return [document.text for document in read_documents(str(spec), "books", ledger or Ledger("t"), **options)]  # type: ignore[arg-type]


def write_rows(path: Path, *rows: object) -> Path:
    data = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_a_folder_is_read_with_its_subfolders_in_a_fixed_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "picture.png").write_bytes(b"\0")
    (tmp_path / ".hidden.txt").write_text("not me")
    write_rows(tmp_path / "sub" / "c.jsonl.gz", {"text": "third"}, {"text": "fourth", "id": 7})
    ledger = Ledger("t")
    documents = list(read_documents(str(tmp_path), "books", ledger))
    assert [(document.id, document.text, document.source) for document in documents] == [
        ("a.md#0", "first", "books"),
        ("b.txt#0", "second", "books"),
        ("sub/c.jsonl.gz:0", "third", "books"),
        ("7", "fourth", "books"),
    ]
    assert ledger.counts["files passed over"] == 1
    assert ledger.rows_in == 4


def test_a_glob_names_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    assert texts(tmp_path / "[ab].txt") == ["a", "b"]


def test_parquet_and_zstd_give_the_same_documents_as_jsonl(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"text": f"document {index} é"} for index in range(600)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    plain = write_rows(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.jsonl.zst").write_bytes(pyarrow.compress(plain.read_bytes(), "zstd", asbytes=True))
    assert texts(tmp_path / "a.parquet") == texts(plain) == texts(tmp_path / "a.jsonl.zst") == [row["text"] for row in rows]


def test_nothing_there_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "books.txt").write_text("x")
    with pytest.raises(DataError, match=r"book\.txt: no such file or folder \(did you mean 'books\.txt'\?\)"):
        texts(tmp_path / "book.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none of its 0 files"):
        texts(tmp_path / "empty")
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match=r"the ending '\.docx' is not one that we read; accepted: \.txt, \.md"):
        texts(tmp_path / "a.docx")


def test_bad_lines_are_set_aside_with_their_numbers_and_the_rest_is_read(tmp_path: Path) -> None:
    bad = ["{broken", {"body": "no text"}, {"text": 3}, {"text": " "}, "", "[1]", '{"text": "\\ud800"}']
    path = write_rows(tmp_path / "a.jsonl", {"text": "good"}, *bad, {"text": "end"})
    path.write_bytes(path.read_bytes() + b'{"text": "\xff"}\n')
    ledger = Ledger("t")
    assert texts(path, ledger) == ["good", "end"]
    assert ledger.rows_in == 9
    assert {reason: listed[0].split(":")[0].split(", ")[-1] for reason, listed in ledger.examples.items()} == {
        "not JSON": "line 2",
        "no column 'text'": "line 3",
        "column 'text' is not text": "line 4",
        "empty": "line 5",
        "not a JSON object": "line 7",
        "not valid Unicode": "line 8",
        "not UTF-8": "line 10",
    }


def test_a_first_row_without_the_named_column_is_an_error_that_names_the_columns(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"body": "x", "id": 1})
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: no column 'text'; found: body, id\. .*text_column"):
        texts(path)
    assert texts(path, text_column="body") == ["x"]


def test_parquet_without_the_column_or_cut_short_is_an_error_with_the_file(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"body": ["x"] * 1000}), path)
    with pytest.raises(DataError, match=r"a\.parquet: no column 'text'; found: body"):
        texts(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"a\.parquet: the file is damaged or cut short"):
        texts(path)


def test_gzip_cut_short_says_after_which_line(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl.gz", *({"text": f"{index * 7919 % 1000003}"} for index in range(20_000)))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz, after line [\d,]+: the file is damaged or cut short"):
        texts(path)


def test_a_line_of_50_megabytes_is_cut_into_documents(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"text": "word " * 10_000_000}, {"text": "small"})
    ledger = Ledger("t")
    found = texts(path, ledger)
    assert "".join(found) == "word " * 10_000_000 + "small"
    assert max(map(len, found)) <= sources.MAX_DOCUMENT_CHARS
    assert ledger.counts["rows cut into pieces"] == 1
    assert ledger.rows_in == len(found)


def test_binary_and_other_encodings_among_texts_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.txt").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "c.txt").write_bytes("café".encode("latin-1"))
    ledger = Ledger("books")
    assert texts(tmp_path, ledger) == ["fine"]
    ledger.keep()
    assert ledger.dropped == {"binary file": 1, "not UTF-8": 1}
    with pytest.raises(DataError, match=r"2 of 3 rows .* would be set aside"):
        ledger.check(0.05)


def test_rows_of_a_hub_dataset_are_streamed_from_its_train_split() -> None:
    asked: list[object] = []

    def load(name: str, subset: str | None, *, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, subset, split, streaming))
        return [{"text": "a"}, {"text": "b"}]

    rows = list(read_hub_rows("hf:org/name:en", Ledger("t"), load))
    assert [row["text"] for _, row in rows] == ["a", "b"]
    assert rows[1][0] == "hf:org/name:en, row 2"
    assert asked == [("org/name", "en", "train", True)]


@pytest.mark.parametrize("error", [RuntimeError("Dataset scripts are no longer supported\nmore"), OSError()], ids=["own tree", "no message"])
def test_whatever_the_hub_library_raises_is_an_error_that_names_the_dataset_and_the_place(error: Exception) -> None:
    def load(*_: object, **__: object) -> Iterator[dict[str, str]]:
        yield {"text": "a"}
        raise error

    reason = next(iter(str(error).splitlines()), "no reason given")
    with pytest.raises(DataError, match=rf"^hf:org/name: cannot be read after row 1 \({type(error).__name__}: {reason}\)$"):
        list(read_hub_rows("hf:org/name", Ledger("t"), load))


def test_the_real_library_is_called_as_it_wants_to_be(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the library datasets is not installed: pip install 'herdling[hub]'")
    for name in ("good", "held out", "empty"):
        (tmp_path / name).mkdir()
    write_rows(tmp_path / "good" / "train.jsonl", {"text": "one", "n": 1}, {"text": "two", "n": None})
    assert texts(f"hf:{tmp_path / 'good'}") == ["one", "two"]
    with pytest.raises(DataError, match=r"row 1: no column 'body'; found: text, n\. Name the one that holds the text with text_column"):
        list(read_documents(f"hf:{tmp_path / 'good'}", "s", Ledger("s"), text_column="body"))
    with pytest.raises(DataError, match=r"good:en: cannot be read \(ValueError: BuilderConfig 'en' not found"):
        texts(f"hf:{tmp_path / 'good'}:en")
    write_rows(tmp_path / "held out" / "validation.jsonl", {"text": "x"})
    with pytest.raises(DataError, match=r"held out: cannot be read \(ValueError: Bad split: train"):
        texts(f"hf:{tmp_path / 'held out'}")
    with pytest.raises(DataError, match=r"empty: cannot be read \(EmptyDatasetError: "):
        texts(f"hf:{tmp_path / 'empty'}")


def test_a_hub_dataset_without_the_library_names_the_extra() -> None:
    try:
        import datasets  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"pip install 'herdling\[hub\]'"):
            texts("hf:org/name")
    else:
        pytest.skip("the library datasets is installed")


def test_the_fingerprint_of_files_follows_their_contents(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"text": "x"})
    before = files_fingerprint(str(tmp_path))
    assert files_fingerprint(str(tmp_path)) == before
    write_rows(path, {"text": "y"})
    assert files_fingerprint(str(tmp_path)) != before
    assert find_files(str(tmp_path), Ledger("t")) == [path]


def test_the_fingerprint_of_a_large_corpus_follows_sizes_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_HASHED_BYTES", 0)
    path = write_rows(tmp_path / "a.jsonl", {"text": "x"})
    before = files_fingerprint(str(path))
    assert files_fingerprint(str(path)) == before
    os.utime(path, ns=(1, 1))
    assert files_fingerprint(str(path)) != before
