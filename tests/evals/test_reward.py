"""What a reward model reports, each number worked by hand."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from herdling.base.errors import DataError
from herdling.base.intervals import wilson
from herdling.base.ledger import Ledger
from herdling.data.comparison_formats import import_comparisons
from herdling.evals.reward import ScoredComparison, card, report_card, response_length, tally
from herdling.types import Comparison, Completion, Message, ToolCall
from tests.data.toy_preferences import answer, pair

KIT = Path(os.environ.get("HERDLING_KIT", "../shared/kit"))


def scored(difference: float, chosen: str = "longer", rejected: str = "short", *, set: str = "", **known: object) -> ScoredComparison:
    """A comparison whose chosen answer stands left and has this much more score."""
    return ScoredComparison(pair(chosen, rejected, **known), (difference, 0.0), set)


# Chosen longer and right, longer and wrong, shorter and right twice, of one length and tied.
FIVE = [scored(1.0), scored(-1.0), scored(2.0, "no", "longer"), scored(0.5, "a", "longer"), scored(0.0, "abc", "xyz")]


def test_accuracy_counts_ties_as_wrong_and_the_length_baseline_as_half() -> None:
    found = tally(FIVE)
    assert (found["total"], found["correct"], found["ties"], found["accuracy"]) == (5, 3, 1, 0.6)
    assert (found["low"], found["high"]) == wilson(3, 5)
    # Longer: 1, 1, 0, 0, 0.5 = 2.5 of 5; the better direction of a draw is called longer.
    assert (found["longer"], found["length_baseline"], found["length_direction"]) == (0.5, 0.5, "longer")
    # Only the model right: two and the shorter ones; only length right: one, and half of the tie.
    assert found["lead"] == pytest.approx((2 - 1.5) / 5)


def test_the_length_baseline_takes_the_better_direction() -> None:
    shorter = [scored(-1.0, "a", "longer"), scored(-1.0, "b", "longer"), scored(1.0)]
    found = tally(shorter)
    assert (found["longer"], found["length_baseline"], found["length_direction"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3), "shorter")
    assert found["lead"] == pytest.approx(1 / 3 - 2 / 3)
    assert found["lead_low"] < found["lead"] < found["lead_high"]


def test_the_better_response_may_stand_on_either_side() -> None:
    assert ScoredComparison(pair(ranking=(1, 0)), (0.2, 0.9)).difference == pytest.approx(0.7)


def test_levels_come_from_strongest_to_weakest_and_unrated_pairs_have_none() -> None:
    found = card([scored(1.0, rating="negligibly"), scored(1.0, rating="significantly"), scored(-1.0, rating="significantly"), scored(1.0)])
    assert list(found["by_rating"]) == ["significantly", "negligibly"]
    assert [row["accuracy"] for row in found["by_rating"].values()] == [0.5, 1.0]
    assert found["accuracy"]["total"] == 4
    assert "by_rating" not in card([scored(1.0)])


def test_turns_are_counted_up_to_five_or_later() -> None:
    turns = [ScoredComparison(pair("a", "b", *(["q", "a"] * count), "q"), (1.0, 0.0)) for count in (0, 1, 4, 6)]
    assert {turn: row["total"] for turn, row in card(turns)["by_turn"].items()} == {"1": 1, "2": 1, "5 or later": 2}


def test_length_buckets_go_by_the_ratio_of_characters() -> None:
    pairs = [(4, 10), (5, 10), (8, 10), (12, 10), (13, 10), (20, 10), (200, 10)]
    found = card([scored(1.0, "a" * chosen, "b" * rejected) for chosen, rejected in pairs])["by_length"]
    assert {name: row["total"] for name, row in found.items()} == {
        "under half as long": 1, "shorter": 1, "about as long": 2, "longer": 1, "at least twice as long": 2,
    }  # fmt: skip


def test_a_tool_call_has_the_length_of_its_name_and_arguments() -> None:
    call = Message(role="assistant", content="ok", tool_calls=(ToolCall(id="1", name="add", arguments={"a": 2}),))
    made = replace(pair(), responses=(Completion(message=call, stop_reason="end_of_turn"), answer("five")))
    assert response_length(made, 0) == 2 + 3 + len('{"a": 2}')


def test_position_is_the_bias_of_the_data_with_accuracy_on_each_side() -> None:
    sides = [scored(1.0), scored(1.0), scored(-1.0), ScoredComparison(pair(ranking=(1, 0)), (0.0, 1.0))]
    found = card(sides)["position"]
    assert (found["total"], found["left"], found["share_left"]) == (4, 3, 0.75)
    assert (found["low"], found["high"]) == wilson(3, 4)
    assert {side: row["accuracy"] for side, row in found["accuracy"].items()} == {"chosen left": pytest.approx(2 / 3), "chosen right": 1.0}


def test_a_file_that_tells_no_sides_has_no_position_bias() -> None:
    assert "position" not in card([scored(1.0, metadata={"sides_known": False})])


def test_recall_of_safe_and_unsafe_parts_at_a_half_and_the_split_is_that_of_table_29() -> None:
    safety = [
        ScoredComparison(pair(campaign="safety", safe=(True, False)), (2.0, -1.0)),
        ScoredComparison(pair(campaign="safety", safe=(True, False)), (-0.5, 0.5)),
        ScoredComparison(pair(campaign="safety", safe=(True, True)), (0.0, -3.0)),
        ScoredComparison(pair(campaign="safety", safe=(False, False)), (-1.0, -2.0)),
        scored(5.0),
    ]
    found = card(safety)["safety"]
    # Safe: 2, -0.5, 0 and -3, where a score of 0 is a half, hence safe. Unsafe: -1, 0.5, -1, -2.
    assert [(row["correct"], row["total"]) for row in found["recall"].values()] == [(2, 4), (3, 4)]
    assert {name: (row["correct"], row["total"]) for name, row in found["split"].items()} == {
        "chosen safe, other not": (1, 2), "both safe": (1, 1), "both unsafe": (1, 1),
    }  # fmt: skip
    assert "safety" not in card([scored(1.0)])


def edited(*scores: float) -> ScoredComparison:
    made = replace(pair(), responses=(answer("bad"), answer("good"), answer("best")), ranking=(2, 1, 0), edited=2)
    return ScoredComparison(made, scores)


def test_an_edit_is_judged_apart_and_its_pair_as_the_others() -> None:
    found = card([edited(0.0, 1.0, 2.0), edited(0.0, 1.0, 0.5), edited(1.0, 0.0, -1.0)])
    assert (found["accuracy"]["correct"], found["accuracy"]["total"]) == (2, 3)
    assert {name: row["correct"] for name, row in found["edits"].items()} == {"edited over chosen": 1, "edited over rejected": 2}


def test_the_limit_is_what_the_hidden_truth_itself_would_score() -> None:
    # Gold rewards that differ by temperature * log 3 are right three times in four; equal ones are a coin.
    golds = [[2 * log(3), 0.0], [0.0, 2 * log(3)], [1.0, 1.0]]
    known = [scored(1.0, simulated=True, metadata={"gold": gold, "gold_temperature": 2.0}) for gold in golds]
    found = card([*known, scored(1.0)])["limit"]
    assert (found["total"], found["accuracy"]) == (3, 0.5)
    assert (found["expected"], found["num_expected"]) == (pytest.approx((0.75 + 0.75 + 0.5) / 3), 3)
    assert card(known)["simulated"] == 3
    assert "expected" not in card([scored(1.0, metadata={"gold": [1.0, 0.0]})])["limit"]


def test_a_pair_that_was_kept_only_because_the_safe_one_was_chosen_has_no_noise() -> None:
    metadata = {"gold": [1.0, 1.5], "gold_temperature": 1.0}
    found = card([scored(1.0, campaign="safety", safe=(True, False), metadata=metadata)])["limit"]
    assert (found["expected"], found["accuracy"]) == (1.0, 0.0)


def test_sets_and_campaigns_are_reported_apart_and_together() -> None:
    found = report_card([scored(1.0, set="a"), scored(-1.0, set="b"), scored(1.0, set="b", campaign="safety", safe=(True, True))])
    assert found["all"]["accuracy"]["correct"] == 2
    assert {name: one["accuracy"]["total"] for name, one in found["sets"].items()} == {"a": 1, "b": 2}
    assert {name: row["accuracy"] for name, row in found["campaigns"].items()} == {"helpfulness": 0.5, "safety": 1.0}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("scores", [(1.0,), (1.0, float("nan")), (1.0, float("inf")), (1.0, 2.0, 3.0)])
def test_scores_that_do_not_fit_are_refused_by_name(scores: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=r"comparison c1: found the scores .* expected 2 finite numbers"):
        report_card([ScoredComparison(pair(), scores)])


def test_nothing_scored_is_refused() -> None:
    with pytest.raises(DataError, match="no scored comparison"):
        report_card([])


@pytest.mark.parametrize("name", ["hh_helpful-base_a", "hh_helpful-rejection-sampled_a", "hh_harmless-base_a"])
def test_the_length_baseline_of_real_data_is_the_published_one(name: str) -> None:
    path = KIT / "preference" / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no kit at {KIT}: set HERDLING_KIT")
    published = json.loads((KIT / "BASELINES.json").read_text())["reward_baseline_longer_reply_wins"][name]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        num_rows = sum(1 for _ in file)
    found = list(import_comparisons(str(path), Ledger("kit")))
    # The published figure counts every row; what is set aside (equal texts, parted conversations) is 0.5 to 1.4 % of them, and a tie is half there too.
    most = (num_rows - len(found)) / num_rows
    assert most < 0.015
    assert tally([ScoredComparison(one, (0.0, 0.0)) for one in found])["longer"] == pytest.approx(published, abs=most)


def test_the_comparison_behind_a_score_is_kept_whole() -> None:
    made: Comparison = pair()
    assert ScoredComparison(made, (1.0, 0.0)).comparison is made
