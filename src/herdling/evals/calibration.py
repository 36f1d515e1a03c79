"""Is a difference of scores the probability that it claims to be? Calibration curve, expected calibration error, and where scores lie.

Plain numbers in, plain data out. Under Bradley and Terry's model sigmoid(r_i - r_j) is the probability that i is preferred (Llama 2, section 3.2.2); after
training with a margin it is not, for the margin asks for larger differences than the preferences bear out. The curve shows by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log1p, sqrt
from typing import Any

from herdling.base.intervals import wilson

NUM_BINS = 10
"""Bins of the calibration curve, of equal width over the confidences, which go from 0.5 to 1."""
NUM_BARS = 24
"""Bars of the histogram of scores, of equal width from the lowest score to the highest."""
UNIFORM_BIMODALITY = 5 / 9


def sigmoid(value: float) -> float:
    """Return 1 / (1 + e^-value), for any size of `value`."""
    return 1 / (1 + exp(-value)) if value >= 0 else exp(value) / (1 + exp(value))


def calibration(differences: Sequence[float]) -> dict[str, Any]:
    """Return the calibration curve and its error of score differences, chosen less rejected.

    The model's confidence in its own preference is sigmoid(|d|), from 0.5 to 1; it was right where d > 0, and half right where d = 0. A bin lists its mean
    confidence and the observed share with its 95 % interval. Expected calibration error = sum over bins of n_bin / n * |share - confidence| (Naeini and
    others, 2015). `log_loss` is the mean of -log sigmoid(d) in nats (a coin: 0.693), `brier` that of (1 - sigmoid(d))^2 (a coin: 0.25).
    """
    held: list[list[float]] = [[] for _ in range(NUM_BINS)]
    for difference in differences:
        confidence = sigmoid(abs(difference))
        held[min(NUM_BINS - 1, int((confidence - 0.5) * 2 * NUM_BINS))].append(difference)
    bins: list[dict[str, Any]] = []
    error = 0.0
    for index, inside in enumerate(held):
        edges = {"from": 0.5 + index / (2 * NUM_BINS), "to": 0.5 + (index + 1) / (2 * NUM_BINS)}
        right = sum(1.0 if difference > 0 else 0.5 if difference == 0 else 0.0 for difference in inside)
        row: dict[str, Any] = {**edges, "total": len(inside)}
        if inside:
            confidence, share = sum(sigmoid(abs(difference)) for difference in inside) / len(inside), right / len(inside)
            low, high = wilson(right, len(inside))
            row |= {"confidence": confidence, "observed": share, "low": low, "high": high}
            error += len(inside) / len(differences) * abs(share - confidence)
        bins.append(row)
    count = max(1, len(differences))
    return {
        "bins": bins,
        "expected_calibration_error": error,
        "log_loss": sum(log1p(exp(-difference)) if difference > -30 else -difference for difference in differences) / count,
        "brier": sum((1 - sigmoid(difference)) ** 2 for difference in differences) / count,
    }


def distribution(chosen: Sequence[float], rejected: Sequence[float]) -> dict[str, Any]:
    """Return where scores lie: mean, standard deviation, histograms on common edges, and how two-peaked the scores are together."""
    scores = [*chosen, *rejected]
    low, high = min(scores), max(scores)
    width = (high - low) / NUM_BARS
    mean = sum(scores) / len(scores)
    return {
        "mean": mean,
        "deviation": sqrt(sum((score - mean) ** 2 for score in scores) / len(scores)),
        "mean_chosen": sum(chosen) / len(chosen),
        "mean_rejected": sum(rejected) / len(rejected),
        "edges": [low + width * index for index in range(NUM_BARS)] + [high],
        "chosen": _histogram(chosen, low, width),
        "rejected": _histogram(rejected, low, width),
        "bimodality": bimodality(scores),
    }


def _histogram(scores: Sequence[float], low: float, width: float) -> list[int]:
    counts = [0] * NUM_BARS
    for score in scores:
        counts[min(NUM_BARS - 1, int((score - low) / width)) if width > 0 else 0] += 1
    return counts


def bimodality(scores: Sequence[float]) -> float | None:
    """Return Sarle's bimodality coefficient with the correction for small samples, or None for fewer than four scores or scores that do not differ.

    (skewness^2 + 1) / (excess kurtosis + 3 (n - 1)^2 / ((n - 2)(n - 3))), from the unbiased estimates of both: 1/3 for a normal distribution, 5/9 for a
    uniform one, 1 for two points. Above 5/9 hints at two peaks (or at one that leans far over); margins push scores that way (Llama 2, section A.3.3).
    """
    n = len(scores)
    if n < 4:
        return None
    mean = sum(scores) / n
    second, third, fourth = (sum((score - mean) ** power for score in scores) / n for power in (2, 3, 4))
    if second <= 1e-24 * max(1.0, mean * mean):
        return None
    skewness = sqrt(n * (n - 1)) / (n - 2) * third / second**1.5
    kurtosis = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (fourth / second**2 - 3) + 6)
    coefficient: float = (skewness**2 + 1) / (kurtosis + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)))
    return coefficient
