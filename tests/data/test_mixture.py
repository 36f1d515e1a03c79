"""The mixture: the asked proportions, capped repetitions, a pure function of (seed, row)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdling.base.errors import DataError, SettingsError
from herdling.data.mixture import BLOCK_ROWS, Mixture, mixture_report, plan_mixture

LLAMA1 = {"web": 0.67, "c4": 0.15, "github": 0.045, "wikipedia": 0.045, "books": 0.045, "arxiv": 0.025, "stackexchange": 0.02}
# Unique tokens derived from LLaMA, table 1, in billions, and the epochs of Llama 1's table 1.
UNIQUE = {"web": 853, "c4": 198, "github": 98, "wikipedia": 26, "books": 28, "arxiv": 33, "stackexchange": 27}
EPOCHS = {"web": 1.10, "c4": 1.06, "github": 0.64, "wikipedia": 2.45, "books": 2.23, "arxiv": 1.06, "stackexchange": 1.03}


def test_the_proportions_of_llama_1_give_the_epochs_of_its_table() -> None:
    plans = plan_mixture({name: size * 10**9 for name, size in UNIQUE.items()}, LLAMA1, total_tokens=1_400 * 10**9)
    assert {plan.source: plan.epochs for plan in plans} == pytest.approx(EPOCHS, abs=0.03)
    assert [plan.asked for plan in plans] == pytest.approx(list(LLAMA1.values()))


def test_a_repetition_cap_moves_the_surplus_to_the_others_by_their_weights() -> None:
    plans = plan_mixture({"a": 100, "b": 10_000, "c": 10_000}, {"a": 2, "b": 1, "c": 1}, total_tokens=1000, max_epochs=2)
    assert [(plan.planned_tokens, plan.capped) for plan in plans] == [(200, True), (400, False), (400, False)]
    assert [plan.proportion for plan in plans] == pytest.approx([0.2, 0.4, 0.4])


def test_caps_fill_one_after_the_other() -> None:
    plans = plan_mixture({"a": 100, "b": 300, "c": 10_000}, {"a": 1, "b": 1, "c": 1}, total_tokens=1000, max_epochs=1)
    assert [plan.planned_tokens for plan in plans] == [100, 300, 600]


def test_too_little_text_for_the_cap_is_an_error_with_the_numbers() -> None:
    with pytest.raises(DataError, match="1,000 tokens are asked for, but the sources hold 400, at most 2 times"):
        plan_mixture({"a": 100, "b": 300}, {}, total_tokens=1000, max_epochs=2)


def test_without_weights_every_source_counts_by_its_size() -> None:
    assert [plan.proportion for plan in plan_mixture({"a": 100, "b": 300}, {}, total_tokens=10)] == [0.25, 0.75]


def test_wrong_weights_are_told_with_their_place() -> None:
    with pytest.raises(SettingsError, match=r"data\.boks: no source is called 'boks' \(did you mean 'books'\?\); there are: books"):
        plan_mixture({"books": 1}, {"boks": 1}, total_tokens=1)
    with pytest.raises(SettingsError, match="found -1, expected a number of 0 or more"):
        plan_mixture({"books": 1}, {"books": -1}, total_tokens=1)
    with pytest.raises(SettingsError, match="all weights are 0"):
        plan_mixture({"books": 1}, {"books": 0}, total_tokens=1)
    assert [plan.source for plan in plan_mixture({"a": 1, "b": 1}, {"a": 1, "b": 0}, total_tokens=1)] == ["a"]


def mixture(weights: dict[str, float], num_rows: int, seed: int = 1) -> Mixture:
    return Mixture(plan_mixture(dict.fromkeys(weights, 10**6), weights, total_tokens=10**6), num_rows=num_rows, seed=seed)


@given(weights=st.lists(st.floats(0.001, 1), min_size=1, max_size=7), seed=st.integers(0, 10))
def test_every_stretch_holds_nearly_the_asked_proportions(weights: list[float], seed: int) -> None:
    num_rows = 20 * BLOCK_ROWS
    made = mixture({str(index): weight for index, weight in enumerate(weights)}, num_rows, seed)
    for position in (BLOCK_ROWS, 5 * BLOCK_ROWS, num_rows):
        drawn = np.array(list(made.drawn_rows(position).values()))
        assert drawn.sum() == position
        # Evenly walking offsets: the error grows like a logarithm, not like the square root of chance.
        assert np.abs(drawn - position * np.array(weights) / sum(weights)).max() < 5


def test_rows_count_on_within_each_source_in_any_order_of_asking() -> None:
    made = mixture(LLAMA1, 1000)
    sources, indices = made.rows(0, 1000)
    for source in range(len(LLAMA1)):
        assert indices[sources == source].tolist() == list(range((sources == source).sum()))
    for start, count in [(900, 100), (255, 2), (0, 1), (512, 300)]:
        part = made.rows(start, count)
        assert (part[0] == sources[start : start + count]).all()
        assert (part[1] == indices[start : start + count]).all()
    assert made.drawn_rows(777) == {name: int((sources[:777] == number).sum()) for number, name in enumerate(LLAMA1)}


def test_the_seed_changes_the_order_and_nothing_else() -> None:
    one, same, other = (mixture(LLAMA1, 512, seed).rows(0, 512)[0] for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_the_report_says_what_was_planned_and_drawn() -> None:
    plans = plan_mixture({"a": 1000, "b": 9000}, {"a": 0.5, "b": 0.5}, total_tokens=64 * 100, max_epochs=2)
    rows = mixture_report(Mixture(plans, num_rows=100, seed=1), position=100, sequence_length=64)
    assert [row["source"] for row in rows] == ["a", "b"]
    assert rows[0]["capped"] is True
    assert rows[0]["planned_epochs"] == 2
    assert rows[0]["drawn_epochs"] == pytest.approx(2, abs=2 * 64 / 1000)
    assert sum(float(row["drawn"]) for row in rows) == 1
