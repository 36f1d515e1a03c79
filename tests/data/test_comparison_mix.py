"""The mix: main sets whole, side sets in the share and as evenly as asked, the same every time, and what fell short in the ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError
from herdling.base.ledger import Ledger
from herdling.data.comparison_mix import MIX, MixConfig, draw, even_counts
from herdling.types import Comparison
from tests.data.toy_preferences import pair


def some(name: str, count: int) -> list[Comparison]:
    return [replace(pair(), id=f"{name}/{number}") for number in range(count)]


SETS = {"helpful": some("helpful", 90), "safety": some("safety", 80), "open": some("open", 200), "tiny": some("tiny", 5)}


def counts(drawn: list[Comparison]) -> Counter[str]:
    return Counter(one.id.split("/")[0] for one in drawn)


def test_llama_2_helpfulness_takes_as_much_again_evenly_from_the_side() -> None:
    ledger = Ledger("reward")
    drawn = draw(MixConfig(main=("helpful",), side=("safety", "open"), side_share=0.5), SETS, 1, ledger)
    assert counts(drawn) == {"helpful": 90, "safety": 45, "open": 45}
    assert len({one.id for one in drawn}) == 180
    assert ledger.counts[MIX] == [
        {"set": "helpful", "part": "main", "available": 90, "planned": 90, "drawn": 90},
        {"set": "safety", "part": "side", "available": 80, "planned": 45, "drawn": 45},
        {"set": "open", "part": "side", "available": 200, "planned": 45, "drawn": 45},
        {"set": "tiny", "part": "none", "available": 5, "planned": 0, "drawn": 0},
    ]


def test_llama_2_safety_is_nine_to_one() -> None:
    drawn = draw(MixConfig(main=("safety", "open"), side=("helpful",), side_share=0.1), SETS, 1, Ledger("reward"))
    # 280 x 0.1 / 0.9 = 31.1
    assert counts(drawn) == {"safety": 80, "open": 200, "helpful": 31}


def test_what_a_small_set_lacks_the_others_give_and_the_ledger_tells() -> None:
    ledger = Ledger("reward")
    drawn = draw(MixConfig(main=("helpful",), side=("tiny", "open"), side_share=0.5), SETS, 1, ledger)
    assert counts(drawn) == {"helpful": 90, "tiny": 5, "open": 85}
    assert [(row["planned"], row["drawn"]) for row in ledger.counts[MIX]][1:3] == [(45, 5), (45, 85)]


def test_a_side_that_is_too_small_altogether_is_taken_whole_and_falls_short_in_the_ledger() -> None:
    ledger = Ledger("reward")
    drawn = draw(MixConfig(main=("open",), side=("helpful", "tiny"), side_share=0.5), SETS, 1, ledger)
    assert counts(drawn) == {"open": 200, "helpful": 90, "tiny": 5}
    assert [(row["set"], row["planned"], row["drawn"]) for row in ledger.counts[MIX] if row["part"] == "side"] == [("helpful", 100, 90), ("tiny", 100, 5)]


def test_the_same_seed_draws_the_same_in_the_same_order_and_another_seed_does_not() -> None:
    mix = MixConfig(main=("helpful",), side=("open",), side_share=0.2)
    first, again, other = (draw(mix, SETS, seed, Ledger("reward")) for seed in (1, 1, 2))
    assert first == again
    assert {one.id for one in first} != {one.id for one in other}
    assert [one.id for one in first[:90]] != [one.id for one in SETS["helpful"]]


def test_a_further_set_shifts_no_draw_of_the_others() -> None:
    mix = MixConfig(main=("helpful",), side=("open",), side_share=0.2)
    without = {name: SETS[name] for name in ("open", "helpful")}
    assert {one.id for one in draw(mix, SETS, 1, Ledger("a"))} == {one.id for one in draw(mix, without, 1, Ledger("b"))}


@given(st.integers(0, 500), st.dictionaries(st.text(max_size=3), st.integers(0, 90), max_size=6))
def test_even_counts_are_exact_and_as_even_as_the_sets_allow(total: int, available: dict[str, int]) -> None:
    found = even_counts(total, available)
    assert sum(found.values()) == min(total, sum(available.values()))
    assert all(0 <= found[name] <= available[name] for name in available)
    # No set that could give one more gives less than any other by more than the remainder's one.
    open_ones = [found[name] for name in available if found[name] < available[name]]
    assert not open_ones or max(found.values()) - min(open_ones) <= 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"main": []}, "names no set"),
        ({"main": ["helpful"], "side": ["helpful"], "side_share": 0.1}, "the set 'helpful' is named twice"),
        ({"main": ["helpful"], "side": ["open"]}, "side names 1 sets and side_share is 0; give both, or neither"),
        ({"main": ["helpful"], "side_share": 0.1}, "side names 0 sets and side_share is 0.1"),
        ({"main": ["helpful"], "side": ["open"], "side_share": 1.0}, "mix.side_share: found 1.0"),
        ({"main": ["helpful"], "sides": []}, "mix.sides: unknown setting \\(did you mean 'side'"),
    ],
)
def test_a_mix_that_says_nothing_clear_is_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        decode(MixConfig, settings, "mix")


def test_a_set_that_is_not_there_or_empty_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="no set is called 'helpfull' \\(did you mean 'helpful'\\?\\); there are: helpful, safety, open, tiny"):
        draw(MixConfig(main=("helpfull",)), SETS, 1, Ledger("reward"))
    with pytest.raises(DataError, match="the main set 'none' holds no comparison"):
        draw(MixConfig(main=("none",)), {"none": []}, 1, Ledger("reward"))
