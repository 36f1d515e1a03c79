"""Chunks: each is made once, whoever reads first and however often, and a stop comes between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from herdling.base.errors import Stopped
from herdling.stages.chunks import Chunked, remove_chunks
from herdling.stages.registry import StageRun


class Maker:
    """Squares numbers, and remembers which it was given."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[dict[str, Any]]:
        self.given.append(list(items))
        return [{"square": item * item} for item in items]


def chunked(folder: Path, maker: Maker, **options: Any) -> Chunked[int]:
    run = StageRun(name="toy", folder=folder, seed=1, **options)
    return Chunked(run=run, part="train", items=[1, 2, 3, 4, 5], size=2, make=maker)


def test_each_chunk_is_made_once_and_read_as_often_as_one_likes(tmp_path: Path) -> None:
    maker = Maker()
    rows = chunked(tmp_path, maker)
    assert [row["square"] for row in rows] == [1, 4, 9, 16, 25] == [row["square"] for row in rows]
    assert maker.given == [[1, 2], [3, 4], [5]]


def test_a_chunk_is_made_when_it_is_come_to(tmp_path: Path) -> None:
    maker = Maker()
    assert next(iter(chunked(tmp_path, maker))) == {"square": 1}
    assert maker.given == [[1, 2]]


def test_a_stop_comes_between_two_chunks_and_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    maker, stops = Maker(), iter([False, True])
    with pytest.raises(Stopped, match=r"toy: stopped after 2 of the prompts; the same command goes on"):
        list(chunked(tmp_path, maker, stop_requested=lambda: next(stops)))
    again = Maker()
    rows = chunked(tmp_path, again)
    assert len(list(rows)) == 5
    assert again.given == [[3, 4], [5]]
    remove_chunks(rows.run)
    assert list(tmp_path.iterdir()) == []


class Steps:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def begin(self, total: int, unit: str) -> None:
        """Nothing to remember."""

    def update(self, done: int, **facts: object) -> None:
        """Remember."""
        self.told.append(done)

    def note(self, line: str) -> None:
        """Nothing to remember."""


def test_the_progress_counts_items_unless_somebody_else_counts(tmp_path: Path) -> None:
    steps = Steps()
    rows = chunked(tmp_path, Maker(), progress=steps)
    list(replace(rows, done_before=10))
    list(replace(rows, part="other", shows_progress=False))
    assert steps.told == [12, 14, 15]


def test_no_items_make_no_chunk(tmp_path: Path) -> None:
    rows: Chunked[int] = Chunked(run=StageRun(name="toy", folder=tmp_path, seed=1), part="train", items=[], size=2, make=Maker())
    assert list(rows) == []
