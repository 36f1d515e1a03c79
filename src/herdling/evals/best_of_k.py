"""What the best of K samples is worth: the expected maximum and median of k rewards over k, with intervals (Llama 2, section 3.2.3, figure 7).

From K samples of a prompt the maximum of k is not read off the first k, but expected over all choices of k of the K: the i-th smallest is the j-th smallest of
a random k with the chance C(i - 1, j - 1) C(K - i, k - j) / C(K, k). That is unbiased, smooth, and uses every sample. The gap between maximum and median is
what rejection sampling can gain. Intervals are over prompts: mean +- 1.96 standard errors. Holds sums, and one number a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdling.base.intervals import Z_95, mean_interval

KINDS = ("max", "median", "mean")
MAX_POINTS = 25


def sizes(num_samples: int, most: int = MAX_POINTS) -> tuple[int, ...]:
    """Return the values of k that a curve shows, from 1 to `num_samples`: all of them, or some at about even distances of their logarithm."""
    if num_samples <= most:
        return tuple(range(1, num_samples + 1))
    return tuple(sorted({round(num_samples ** (place / (most - 1))) for place in range(most)}))


@lru_cache(maxsize=4096)
def order_weights(num_samples: int, k: int, rank: int) -> NDArray[np.float64]:
    """Return for each of K sorted samples, from the smallest, the chance that it is the `rank`-th smallest (from 1) of a random `k` of them, `[K]`."""
    total = comb(num_samples, k)
    chances = [comb(place, rank - 1) * comb(num_samples - 1 - place, k - rank) / total for place in range(num_samples)]
    return np.array(chances, np.float64)


def expected_max(rewards: NDArray[np.float64], k: int) -> float:
    """Return the expected maximum of a random `k` of the rewards, which are sorted, `[K]`."""
    return float(order_weights(len(rewards), k, k) @ rewards)


def expected_median(rewards: NDArray[np.float64], k: int) -> float:
    """Return the expected median of a random `k` of the rewards, which are sorted, `[K]`; of an even number the mean of the two in the middle."""
    middle = {(k + 1) // 2, k // 2 + 1}
    return float(np.mean([order_weights(len(rewards), k, rank) @ rewards for rank in middle]))


class BestOfK:
    """The curves of a set of prompts, each with the same number of samples. A sample that cannot be used counts as a reward of `unusable_as`."""

    def __init__(self, num_samples: int, unusable_as: float) -> None:
        self.num_samples, self.unusable_as = num_samples, unusable_as
        self.k = sizes(num_samples)
        self.bests: list[float] = []
        """The best of all samples, of each prompt."""
        self.num_unusable = 0
        self._sums = np.zeros((len(KINDS), len(self.k)))
        self._squares = np.zeros_like(self._sums)

    def add(self, rewards: Sequence[float | None]) -> None:
        """Count one prompt with the rewards of its samples; None is one that cannot be used."""
        if len(rewards) != self.num_samples:
            raise ValueError(f"a prompt has {len(rewards)} rewards, the others {self.num_samples}")
        ordered = np.sort(np.array([self.unusable_as if reward is None else reward for reward in rewards], np.float64))
        mean = float(ordered.mean())
        found = np.array([[expected_max(ordered, k) for k in self.k], [expected_median(ordered, k) for k in self.k], [mean] * len(self.k)])
        self.bests.append(float(ordered[-1]))
        self.num_unusable += sum(reward is None for reward in rewards)
        self._sums += found
        self._squares += found**2

    def to_dict(self) -> dict[str, Any]:
        """Return the curves as plain data: for each kind the mean over prompts at each k, and its 95 % interval (none for a single prompt)."""
        count = len(self.bests)
        curves: dict[str, Any] = {"prompts": count, "samples": count * self.num_samples, "unusable": self.num_unusable, "unusable_as": self.unusable_as}
        curves["k"] = list(self.k)
        for kind, sums, squares in zip(KINDS, self._sums, self._squares, strict=True):
            means = sums / max(1, count)
            spread = np.sqrt(np.maximum(0.0, squares - count * means**2) / max(1, count - 1)) * Z_95 / sqrt(max(1, count))
            known = count > 1 and all(map(isfinite, spread))
            curves[kind] = {"value": means.tolist(), "low": (means - spread).tolist() if known else None, "high": (means + spread).tolist() if known else None}
        return curves


def coolest_of_the_best(temperatures: Sequence[float], curves: Sequence[BestOfK]) -> int:
    """Return the place of the coolest temperature whose best of K is not worse, beyond the 95 % interval, than that of the one where it is worth most.

    All were tried on the same prompts, so the interval is that of the paired differences. A hotter one that is better by chance alone is no gain: its answers
    are stranger, and where reward models judge what they have not seen, the best by their reward is less and less the best.
    """
    top = max(range(len(curves)), key=lambda place: sum(curves[place].bests))
    for place in sorted(range(len(curves)), key=lambda place: temperatures[place]):
        _, low, _ = mean_interval([one - other for one, other in zip(curves[top].bests, curves[place].bests, strict=True)])
        if place == top or low <= 0:
            return place
    return top
