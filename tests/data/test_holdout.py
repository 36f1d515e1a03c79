"""The validation split: by digest, at least so many, nothing on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdling.base.ledger import Ledger
from herdling.data.holdout import Seen, hold_out, without_duplicates, write_splits


def split(items: list[str], share: float, minimum: int) -> tuple[list[str], list[str]]:
    sides = list(hold_out(items, group=lambda item: item.split("/")[0], share=share, minimum=minimum))
    return [item for side, item in sides if side == "train"], [item for side, item in sides if side == "validation"]


ITEMS = [f"item {index}" for index in range(2000)]


def test_about_the_asked_share_is_held_out_and_nothing_is_lost() -> None:
    train, validation = split(ITEMS, 0.1, 8)
    assert sorted(train + validation) == sorted(ITEMS)
    assert 150 < len(validation) < 250


def test_the_side_does_not_depend_on_order_or_on_other_items() -> None:
    _, validation = split(ITEMS, 0.1, 8)
    _, reverse = split(ITEMS[::-1], 0.1, 8)
    _, half = split(ITEMS[::2], 0.1, 8)
    assert set(reverse) == set(validation)
    assert set(half) == set(validation) & set(ITEMS[::2])
    assert set(split(ITEMS, 0.05, 8)[1]) < set(validation)


@pytest.mark.parametrize(("num_items", "minimum", "expected"), [(100, 8, 8), (79, 8, 7), (10, 8, 1), (1, 8, 0), (2, 8, 1), (30, 8, 3), (0, 8, 0), (5, 0, 0)])
def test_a_minimum_is_held_out_but_never_too_much_of_a_small_source(num_items: int, minimum: int, expected: int) -> None:
    train, validation = split(ITEMS[:num_items], 1e-9, minimum)
    assert (len(train), len(validation)) == (num_items - expected, expected)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_a_larger_share_holds_out_more_of_a_small_source_too(share: float) -> None:
    train, validation = split(ITEMS[:40], share, 8)
    more = split(ITEMS[:40], share + 0.2, 8)[1]
    assert set(validation) <= set(more)
    assert len(validation) >= max(4, 40 * share / 2)
    assert len(train) + len(validation) == 40


def test_a_share_of_zero_holds_out_nothing() -> None:
    assert split(ITEMS, 0, 8) == (split(ITEMS, 0, 8)[0], [])


def test_items_of_one_group_stay_together() -> None:
    items = [f"{index % 50}/{index}" for index in range(500)]
    for share, minimum in [(0.1, 8), (1e-9, 3), (0.3, 0)]:
        train, validation = split(items, share, minimum)
        assert not {item.split("/")[0] for item in train} & {item.split("/")[0] for item in validation}
        assert len(train) + len(validation) == 500


def test_exact_duplicates_are_counted_across_sources() -> None:
    seen, ledger = Seen(), Ledger("t")
    once = list(without_duplicates(["a", "b", "a"], text=str, name=lambda item: f"name {item}", seen=seen, ledger=ledger))
    again = list(without_duplicates(["b", "c"], text=str, name=str, seen=seen, ledger=ledger))
    assert (once, again) == (["a", "b"], ["c"])
    assert ledger.dropped == {"exact duplicate": 2}
    assert ledger.examples["exact duplicate"][0] == "name a"


def test_a_failure_while_writing_leaves_no_file(tmp_path: Path) -> None:
    def items():  # type: ignore[no-untyped-def]
        yield "train", "a"
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_splits("x", lambda side: tmp_path / f"x.{side}.jsonl", items(), to_row=lambda item: {"text": item}, size=len, ledger=Ledger("t"))
    assert list(tmp_path.iterdir()) == []
