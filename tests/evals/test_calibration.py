"""Calibration and the shape of scores, against figures worked by hand and distributions whose figures are known."""

from __future__ import annotations

from math import log
from statistics import NormalDist

import pytest

from herdling.evals.calibration import NUM_BARS, NUM_BINS, bimodality, calibration, distribution, sigmoid


def difference(confidence: float) -> float:
    """The score difference that claims this probability."""
    return log(confidence / (1 - confidence))


def test_expected_calibration_error_is_the_gap_of_each_bin_by_its_size() -> None:
    # Two claims of 0.72, of which one is right: gap 0.22, weight 2/4. One of 0.93, right: 0.07, 1/4. A tie claims a half and is half right: 0.
    found = calibration([difference(0.72), -difference(0.72), difference(0.93), 0.0])
    assert found["expected_calibration_error"] == pytest.approx(0.22 / 2 + 0.07 / 4)
    assert found["log_loss"] == pytest.approx(-(log(0.72) + log(0.28) + log(0.93) + log(0.5)) / 4)
    assert found["brier"] == pytest.approx((0.28**2 + 0.72**2 + 0.07**2 + 0.5**2) / 4)


def test_bins_go_from_a_half_to_one_and_hold_every_pair_once() -> None:
    found = calibration([difference(0.51 + 0.01 * step) * (-1) ** step for step in range(48)])["bins"]
    assert [(one["from"], one["to"]) for one in found[:2]] == [(0.5, 0.55), (0.55, pytest.approx(0.6))]
    assert found[-1]["to"] == 1.0
    assert (len(found), sum(one["total"] for one in found)) == (NUM_BINS, 48)
    assert all(one["from"] <= one["confidence"] <= one["to"] and one["low"] <= one["observed"] <= one["high"] for one in found)


def test_a_model_that_claims_what_it_keeps_has_no_error_and_one_that_boasts_has() -> None:
    kept = [difference(0.8)] * 80 + [-difference(0.8)] * 20
    assert calibration(kept)["expected_calibration_error"] == pytest.approx(0.0, abs=1e-12)
    boasted = [difference(0.99)] * 80 + [-difference(0.99)] * 20
    assert calibration(boasted)["expected_calibration_error"] == pytest.approx(0.19)


def test_huge_differences_overflow_nowhere() -> None:
    found = calibration([2000.0, -2000.0])
    assert found["log_loss"] == pytest.approx(1000.0)
    assert found["bins"][-1]["observed"] == 0.5
    assert (sigmoid(2000.0), sigmoid(-2000.0), sigmoid(0.0)) == (1.0, 0.0, 0.5)


def test_bimodality_is_the_published_formula() -> None:
    # 0, 0, 0, 0, 1: moments 0.16, 0.096, 0.0832, so skewness sqrt(20)/3 * 1.5 = sqrt(5), excess kurtosis 4/6 * (6 * 0.25 + 6) = 5; 6 / (5 + 3 * 16 / 6) = 6/13.
    assert bimodality([0, 0, 0, 0, 1]) == pytest.approx(6 / 13)


def test_bimodality_tells_two_peaks_from_one() -> None:
    steps = [(index + 0.5) / 20_000 for index in range(20_000)]
    assert bimodality(steps) == pytest.approx(5 / 9, abs=1e-3)
    assert bimodality([NormalDist().inv_cdf(step) for step in steps]) == pytest.approx(1 / 3, abs=2e-3)
    assert bimodality([-1.0, 1.0] * 10_000) == pytest.approx(1.0, abs=1e-3)
    assert bimodality([1.0, 2.0, 3.0]) is None
    assert bimodality([0.1] * 50) is None


def test_histograms_share_their_edges_and_lose_no_score() -> None:
    found = distribution([0.0, 1.0, 2.4], [-2.4, 0.0])
    assert (found["edges"][0], found["edges"][-1], len(found["edges"])) == (-2.4, 2.4, NUM_BARS + 1)
    # 4.8 / 24 = 0.2 a bar: 0 is the first of bar 12, 1.0 of bar 17, and the highest score belongs to the last bar.
    assert found["chosen"][12] == found["rejected"][12] == found["chosen"][17] == found["chosen"][23] == found["rejected"][0] == 1
    assert (sum(found["chosen"]), sum(found["rejected"])) == (3, 2)
    assert found["mean"] == pytest.approx(0.2)
    assert (found["mean_chosen"], found["mean_rejected"]) == (pytest.approx(3.4 / 3), pytest.approx(-1.2))
    assert found["deviation"] == pytest.approx(((0.04 + 0.64 + 4.84 + 6.76 + 0.04) / 5) ** 0.5)


def test_scores_that_are_all_equal_still_have_a_histogram() -> None:
    found = distribution([1.0], [1.0])
    assert (found["chosen"][0], found["rejected"][0], found["deviation"], found["bimodality"]) == (1, 1, 0.0, None)
