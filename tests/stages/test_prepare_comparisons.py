"""The stage prepare_comparisons: nothing lost, no question on both sides, and the same first ones for every size."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from herdling.base.comparison_records import read_comparisons
from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError, Stopped
from herdling.base.ledger import Ledger
from herdling.data.comparison_mix import MixConfig, draw
from herdling.stages.prepare_comparisons import PrepareComparisons
from herdling.stages.registry import StageRun
from herdling.types import Comparison


def rows(count: int) -> list[dict[str, Any]]:
    """Two pairs for each question."""
    return [{"prompt": f"question {number // 2}", "chosen": f"good {number}", "rejected": f"bad {number}", "margin": 1.0} for number in range(count)]


def prepare(tmp_path: Path, given: list[dict[str, Any]], name: str = "out", **settings: Any) -> tuple[list[Comparison], list[Comparison], dict[str, Any]]:
    path, folder = tmp_path / "rows.jsonl", tmp_path / name
    path.write_text("\n".join(map(json.dumps, given)), encoding="utf-8")
    folder.mkdir()
    stage = decode(PrepareComparisons, {"path": str(path), **settings}, "stages.x")
    stage.run(StageRun(name="x", folder=folder, seed=1))
    return list(read_comparisons(folder, "train")), list(read_comparisons(folder, "test")), json.loads((folder / "ledger.json").read_text())


def asked(comparisons: list[Comparison]) -> set[str]:
    return {one.dialog.messages[0].content for one in comparisons}


def test_every_row_is_on_one_side_and_no_question_on_both(tmp_path: Path) -> None:
    train, test, ledger = prepare(tmp_path, rows(400), test_share=0.2)
    assert len(train) + len(test) == ledger["kept"] == ledger["rows_in"] == 400
    assert not asked(train) & asked(test)
    assert 40 <= len(test) <= 120
    assert ledger["counts"] == {"train comparisons": len(train), "test comparisons": len(test)}


def test_a_larger_set_begins_with_the_smaller_and_is_tested_on_the_same(tmp_path: Path) -> None:
    small = prepare(tmp_path, rows(400), "small", max_train=50)
    large = prepare(tmp_path, rows(400), "large", max_train=200)
    assert large[0][:50] == small[0]
    assert large[1] == small[1]
    assert small[2]["dropped"]["more than max_train"]["count"] == 400 - 50 - len(small[1])
    # Not the first rows of the file, which may be sorted.
    assert max(int(one.dialog.messages[0].content.split()[1]) for one in small[0]) > 100


def test_margins_and_campaign_are_as_declared(tmp_path: Path) -> None:
    train, _, _ = prepare(tmp_path, rows(20), margins="small")
    assert {(one.rating, one.campaign) for one in train} == {("significantly", "helpfulness")}


def test_rows_that_cannot_be_used_are_counted_and_too_many_of_them_refused(tmp_path: Path) -> None:
    bad = [{"prompt": "q", "chosen": "same", "rejected": "same"}] * 3
    _, _, ledger = prepare(tmp_path, rows(97) + bad, "few")
    assert ledger["dropped"]["equal responses"]["count"] == 3
    with pytest.raises(DataError, match=r"3 of 100 rows \(3\.0%\) would be set aside, accepted is 2\.0%"):
        prepare(tmp_path, rows(97) + bad, "many", max_dropped_share=0.02)


def test_duplicates_are_set_aside_and_do_not_count_as_harm(tmp_path: Path) -> None:
    train, test, ledger = prepare(tmp_path, rows(40) * 3)
    assert len(train) + len(test) == 40
    assert ledger["dropped"]["exact duplicate"]["count"] == 80


def test_a_safety_campaign_without_labels_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row is left of 20 read \(safety label missing: 20\).*each response is safe or not"):
        prepare(tmp_path, rows(20), campaign="safety")


def test_harmless_pairs_without_labels_are_a_main_set_of_the_safety_mix_once_it_is_said(tmp_path: Path) -> None:
    """Llama 2, section 3.2.2: all of its own safety data and Anthropic Harmless, with a tenth of helpfulness data."""
    start = "\n\nHuman: question {}\n\nAssistant: "
    pairs = [{side: start.format(number) + f"{side} {number}" for side in ("chosen", "rejected")} for number in range(60)]
    train, test, ledger = prepare(tmp_path, pairs, "harmless", campaign="safety", safety_labels=False)
    assert len(train) + len(test) == ledger["kept"] == 60
    assert {(one.campaign, one.safe, one.metadata["safety_labels"]) for one in (*train, *test)} == {("safety", None, "not asked")}
    helpful, _, _ = prepare(tmp_path, rows(60), "helpful")
    mix = MixConfig(main=("harmless",), side=("helpful",), side_share=0.1)
    drawn = draw(mix, {"harmless": train, "helpful": helpful}, 1, Ledger("reward"))
    assert Counter(one.campaign for one in drawn) == {"safety": len(train), "helpfulness": round(len(train) / 9)}
    with pytest.raises(SettingsError, match=r"stages.x.safety_labels: false is for campaign = 'safety'"):
        prepare(tmp_path, pairs, "wrong", safety_labels=False)


def test_our_own_safety_rows_need_their_labels_whatever_is_said_of_others(tmp_path: Path) -> None:
    said = [{"role": "assistant", "content": text} for text in ("good", "bad")]
    responses = [{"message": message, "stop_reason": "end_of_turn"} for message in said]
    dialog = {"id": "d", "messages": [{"role": "user", "content": "q"}]}
    own = [{"id": "c", "dialog": dialog, "responses": responses, "ranking": [0, 1], "campaign": "safety"}]
    with pytest.raises(DataError, match="safety label missing: 1"):
        prepare(tmp_path, own, campaign="safety", safety_labels=False)


def test_one_question_alone_leaves_nothing_to_test_and_all_to_train(tmp_path: Path) -> None:
    train, test, _ = prepare(tmp_path, rows(2))
    assert (len(train), len(test)) == (2, 0)


def test_a_form_that_is_none_and_a_stop_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no form 'csv' to read"):
        prepare(tmp_path, rows(4), "form", form="csv")
    (tmp_path / "stop").mkdir()
    stage = decode(PrepareComparisons, {"path": str(tmp_path / "rows.jsonl")}, "stages.x")
    with pytest.raises(Stopped, match="the same command starts this stage again"):
        stage.run(StageRun(name="x", folder=tmp_path / "stop", seed=1, stop_requested=lambda: True))


def test_a_changed_file_is_another_input(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    stage = decode(PrepareComparisons, {"path": str(path)}, "stages.x")
    before = stage.outside_inputs()
    path.write_text("{} ")
    assert list(before) == [str(path)]
    assert stage.outside_inputs() != before
