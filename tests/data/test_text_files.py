"""Plain text files: what is accepted, where a fault stands, and that nothing is lost in cutting."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdling.base.errors import DataError
from herdling.data.text_files import BLOCK_BYTES, cut_text, read_pieces, text_fault


@given(text=st.text(alphabet="ab \n", max_size=400), limit=st.integers(1, 50))
def test_pieces_joined_are_the_text_and_none_is_too_long(text: str, limit: int) -> None:
    pieces = cut_text(text, limit)
    assert "".join(pieces) == text
    assert all(len(piece) <= limit for piece in pieces)


def test_a_cut_falls_on_a_blank_line_before_a_line_end_before_a_space() -> None:
    assert cut_text("one two\n\nthree four", 12) == ["one two\n\n", "three four"]
    assert cut_text("one two\nthree four", 12) == ["one two\n", "three four"]
    assert cut_text("one two three four", 12) == ["one two ", "three four"]
    assert cut_text("onetwothreefour", 12) == ["onetwothreef", "our"]


def test_reading_in_blocks_keeps_characters_whole_and_drops_the_byte_order_mark(tmp_path: Path) -> None:
    text = "é€😀 line\n" * (BLOCK_BYTES // 8)
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert text_fault(path) is None
    pieces = list(read_pieces(path, 65_536))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 65_536


def test_a_binary_file_is_told_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"text" * 10 + b"\0\1\2")
    assert text_fault(path) == ("binary file", f"{path}: byte 40 is 0, which no text holds")


@pytest.mark.parametrize("offset", [0, 7, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 5])
def test_invalid_utf8_is_told_with_its_byte_in_the_file(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * offset + b"\xe9" + b"a" * 20)
    reason, where = text_fault(path) or ("", "")
    assert reason == "not UTF-8"
    assert where == f"{path}: byte {offset:,} is 0xe9 (invalid continuation byte); accepted is UTF-8"


def test_a_character_cut_off_at_the_end_is_told_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc" + "€".encode()[:2])
    assert text_fault(path) == ("not UTF-8", f"{path}: byte 3 is 0xe2 (unexpected end of data); accepted is UTF-8")


def test_utf16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello", encoding="utf-16")
    assert text_fault(path) == ("not UTF-8", f"{path}: byte 0: the file is UTF-16; accepted is UTF-8")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_compressed_file_that_is_cut_short_is_an_error_with_its_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    data = bytes(range(1, 128)) * 997
    if ending == ".gz":
        path.write_bytes(gzip.compress(data)[:-20])
    else:
        pyarrow = pytest.importorskip("pyarrow")
        path.write_bytes(pyarrow.compress(data, "zstd", asbytes=True)[:-20])
    with pytest.raises(DataError, match=rf"{path}: the file is damaged or cut short"):
        text_fault(path)


def test_one_line_of_50_megabytes_is_cut_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 50_000_000)
    started = time.monotonic()
    assert sum(map(len, read_pieces(path, 65_536))) == 50_000_000
    assert time.monotonic() - started < 5
