"""What the best of k is worth: against all choices of k by hand, and against the definition by brute force."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean, median, stdev

import numpy as np
import pytest

from herdling.evals.best_of_k import BestOfK, coolest_of_the_best, expected_max, expected_median, order_weights, sizes


def test_weights_by_hand() -> None:
    # Of {1, 2, 3, 4}, two are drawn in six ways; the larger is 2 once, 3 twice, 4 three times.
    assert order_weights(4, 2, 2).tolist() == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert order_weights(4, 2, 1).tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6, 0])
    assert order_weights(1, 1, 1).tolist() == [1.0]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_maximum_and_median_are_the_means_over_all_choices_of_k(k: int) -> None:
    rewards = np.array([-2.5, -1.0, 0.25, 0.25, 3.0, 7.5])
    chosen = list(combinations(rewards.tolist(), k))
    assert expected_max(rewards, k) == pytest.approx(fmean(map(max, chosen)))
    assert expected_median(rewards, k) == pytest.approx(fmean(map(median, chosen)))


def test_a_hundred_samples_are_no_trouble() -> None:
    rewards = np.sort(np.random.default_rng(0).normal(size=100))
    assert expected_max(rewards, 100) == pytest.approx(rewards[-1])
    assert expected_max(rewards, 1) == pytest.approx(rewards.mean())
    assert expected_median(rewards, 100) == pytest.approx(float(np.median(rewards)))
    assert order_weights(100, 50, 25).sum() == pytest.approx(1.0)


def test_curves_are_means_over_prompts_with_their_intervals() -> None:
    curves = BestOfK(2, unusable_as=-1.0)
    curves.add([1.0, 3.0])
    curves.add([None, 5.0])
    told = curves.to_dict()
    assert (told["prompts"], told["samples"], told["unusable"], told["k"]) == (2, 4, 1, [1, 2])
    assert told["max"]["value"] == pytest.approx([2.0, 4.0])
    assert told["mean"]["value"] == pytest.approx([2.0, 2.0])
    assert told["median"]["value"] == pytest.approx([2.0, 2.0])
    spread = 1.959963984540054 * stdev([3.0, 5.0]) / 2**0.5
    assert (told["max"]["low"][1], told["max"]["high"][1]) == pytest.approx((4 - spread, 4 + spread))
    assert curves.bests == [3.0, 5.0]


def test_one_prompt_has_no_interval() -> None:
    curves = BestOfK(1, unusable_as=0.0)
    curves.add([2.0])
    assert curves.to_dict()["max"] == {"value": [2.0], "low": None, "high": None}
    with pytest.raises(ValueError, match="2 rewards, the others 1"):
        curves.add([1.0, 2.0])


def test_curves_of_many_samples_are_shown_at_some_sizes() -> None:
    assert sizes(5) == (1, 2, 3, 4, 5)
    assert sizes(100)[:3] == (1, 2, 3)
    assert sizes(100)[-1] == 100
    assert len(sizes(100)) <= 25


def curves_of(*bests: float) -> BestOfK:
    curves = BestOfK(1, unusable_as=0.0)
    for best in bests:
        curves.add([best])
    return curves


def test_the_hotter_temperature_has_to_be_better_beyond_chance() -> None:
    cool, warm = curves_of(1.0, 2.0, 3.0, 4.0), curves_of(2.0, 3.1, 3.9, 5.0)  # better by 0.9 to 1.1 at every prompt
    assert coolest_of_the_best([0.7, 1.3], [cool, warm]) == 1
    assert coolest_of_the_best([1.3, 0.7], [warm, cool]) == 0
    lucky = curves_of(1.0, 2.0, 3.0, 8.0)  # better at one prompt alone
    assert coolest_of_the_best([0.7, 1.3], [cool, lucky]) == 0
    assert coolest_of_the_best([0.7, 1.3], [cool, curves_of(1.0, 2.0, 3.0, 4.0)]) == 0
    assert coolest_of_the_best([0.7, 1.0, 1.3], [cool, warm, curves_of(2.0, 3.1, 3.9, 5.2)]) == 1
    assert coolest_of_the_best([1.0], [lucky]) == 0
