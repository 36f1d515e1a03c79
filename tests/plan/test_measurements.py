"""A table that cannot be fitted is refused with its file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.plan.measurements import read_losses

HEADER = "compute_budget,training_tokens,validation_loss\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_two_of_three_give_the_third(tmp_path: Path) -> None:
    rows = read_losses(written(tmp_path / "a.csv", HEADER + "6e18,1e9,2.5\n"))
    assert rows.parameters.tolist() == [1e9]
    rows = read_losses(written(tmp_path / "b.csv", "N,D,loss\n1e8,2e9,3.0\n"))
    assert rows.flops.tolist() == [1.2e18]
    assert read_losses(written(tmp_path / "bom.csv", "\ufeff" + HEADER + "6e18,1e9,2.5\n")).loss.tolist() == [2.5]
    packed = tmp_path / "c.csv.gz"
    packed.write_bytes(gzip.compress(b"N,C,loss\n1e8,6e17,3.0\n"))
    assert read_losses(packed).tokens.tolist() == [1e9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "6e18,1e9,2.5\n6e18,1e9,nan\n", "line 3: validation_loss is nan.*diverged"),
        (HEADER + "6e18,-1e9,2.5\n", "line 2: training_tokens is -1e9"),
        (HEADER + "6e18,many,2.5\n", "line 2: training_tokens is 'many', expected a number"),
        (HEADER + "6e18,1e9\n", "line 2: not 3 cells"),
        (HEADER + "6e18,1e9,2.5,7\n", "line 2: not 3 cells"),
        (HEADER, "no rows"),
        ("", "no rows"),
        ("compute_budget,training_tokens\n1,1\n", "no column validation_loss"),
        ("compute_budget,validation_loss\n1,1\n", "needs two of the columns"),
        ("C,N,D,loss\n6e18,1e9,1e9,2.0\n6e18,1e9,1e6,2.0\n", "line 3: compute 6e\\+18 is 1e\\+03 times 6ND.*a unit wrong"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_losses(written(tmp_path / "runs.csv", text))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_losses(tmp_path / "missing.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_losses(tmp_path / "x.csv")
    (tmp_path / "x.csv.gz").write_bytes(b"not packed")
    with pytest.raises(DataError, match="cannot be read"):
        read_losses(tmp_path / "x.csv.gz")


def test_other_separators_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("C;D;loss\n1e18;1e9;3\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no comma but 'C;D;loss'"):
        read_losses(tmp_path / "a.csv")


def test_copies_of_a_row_are_found_and_two_runs_alike_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("C,D,loss\n1e18,1e9,3\n1e18,1e9,3.01\n1e18,1e9,3\n", encoding="utf-8")
    assert read_losses(tmp_path / "a.csv").repeated_lines() == [4]
