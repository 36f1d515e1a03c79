"""How far judgements can be trusted: agreement between annotators, with gold and with oneself, fairness to left and right, time, drift between rounds.

Krippendorff's alpha is ours: the library for it is under the GPL, which a package under Apache-2.0 cannot depend on; tests hold ours against it. Plain numbers
in and out, no SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdling.base.intervals import wilson
from herdling.base.seeds import stream
from herdling.preference.rating import LEVELS, Side
from herdling.types import Rating

PERMUTATIONS = 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One judgement that stands, as the numbers see it."""

    task: int
    annotator: str
    round: int
    side: Side
    rating: Rating
    place: int
    """On the line from 1 (the task's first response is significantly better) to 8 (its second is), whatever side each was shown on."""
    seconds: float
    gold: bool | None = None
    """Of a gold item: whether the known best response was chosen."""
    before: int | None = None
    """Of a repeat: the place that the same annotator gave the first time."""


def krippendorff_alpha(units: Iterable[Sequence[int]]) -> float | None:
    """Return Krippendorff's alpha for ordinal data; each unit holds the values that different annotators gave the same item.

    alpha = 1 - D_observed / D_expected over the matrix of coincidences, with the ordinal distance of c and k: (sum of n_g for g from c to k - (n_c + n_k) / 2)
    squared (Krippendorff, Content Analysis, section 12.3.3). None where no unit has two values, or all values are the same: nothing could have disagreed.
    """
    pairable = [unit for unit in units if len(unit) > 1]
    values = sorted({value for unit in pairable for value in unit})
    if len(values) < 2:
        return None
    counts = np.array([[unit.count(value) for value in values] for unit in map(list, pairable)], dtype=np.float64)  # [units, values]
    weights = 1 / (counts.sum(1) - 1)
    coincidences = (counts * weights[:, None]).T @ counts - np.diag((counts * weights[:, None]).sum(0))  # [values, values]
    totals = coincidences.sum(1)
    # Up to the middle of each value's own weight: the difference of two such middles is the sum from c to k less half of both ends.
    middles = np.cumsum(totals) - totals / 2
    distance = np.subtract.outer(middles, middles) ** 2
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected)


def share(hits: int, total: int) -> dict[str, Any]:
    """Return a share with its 95 % interval, as plain data; None where nothing was counted."""
    low, high = wilson(hits, total)
    return {"share": hits / total if total else None, "low": low, "high": high, "hits": hits, "total": total}


def summary(observations: Sequence[Observation]) -> dict[str, Any]:
    """Return the numbers of some judgements: of a campaign, an annotator, a round.

    Between annotators: `alpha` (places, ordinal), `same_side` and `same_place` (share of pairs of annotators on the same task who chose the same response, and
    with the same level). `gold` and `repeats`: share with the known answer, and with one's own earlier one. `left`: share that chose the left side; sides are
    shuffled, so an interval without 0.5 means bias.
    """
    units: dict[int, list[int]] = defaultdict(list)
    for seen in observations:
        if seen.before is None:
            units[seen.task].append(seen.place)
    pairs = [pair for places in units.values() for pair in combinations(places, 2)]
    gold = [seen.gold for seen in observations if seen.gold is not None]
    repeats = [(seen.before, seen.place) for seen in observations if seen.before is not None]
    return {
        "judgements": len(observations),
        "alpha": krippendorff_alpha(units.values()),
        "same_side": share(sum(prefers_first(a) == prefers_first(b) for a, b in pairs), len(pairs)),
        "same_place": share(sum(a == b for a, b in pairs), len(pairs)),
        "gold": share(sum(gold), len(gold)),
        "repeats": share(sum(prefers_first(a) == prefers_first(b) for a, b in repeats), len(repeats)),
        "left": share(sum(seen.side == "left" for seen in observations), len(observations)),
        "levels": {level: sum(seen.rating == level for seen in observations) for level in LEVELS},
        "seconds": median(seen.seconds for seen in observations) if observations else None,
    }


def with_others(observations: Sequence[Observation], annotator: str) -> dict[str, Any]:
    """Return how often an annotator chose the response that each other annotator of the same task chose."""
    places: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for seen in observations:
        if seen.before is None:
            places[seen.task].append((seen.annotator, seen.place))
    mine = [(own, other) for given in places.values() for who, own in given if who == annotator for name, other in given if name != annotator]
    return share(sum(prefers_first(own) == prefers_first(other) for own, other in mine), len(mine))


def drift(observations: Sequence[Observation]) -> list[dict[str, Any]]:
    """Return, for each two successive rounds, how far the distribution of the four levels moved, and how often chance alone moves it as far.

    `distance` is the total variation (half the sum of absolute differences of the shares). `p_value` is that of a permutation test: rounds dealt anew to the
    same judgements 999 times, from a named stream, so it is the same each time.
    """
    by_round: dict[int, list[int]] = defaultdict(list)
    for seen in observations:
        by_round[seen.round].append(LEVELS.index(seen.rating))
    found = []
    for earlier, later in pairwise(sorted(by_round)):
        levels, cut = np.array(by_round[earlier] + by_round[later]), len(by_round[earlier])
        distance = _total_variation(levels, cut)
        chance = stream(0, "drift", earlier, later)
        as_far = sum(_total_variation(chance.permutation(levels), cut) >= distance - 1e-12 for _ in range(PERMUTATIONS))
        found.append({"from": earlier, "to": later, "distance": distance, "p_value": (1 + as_far) / (1 + PERMUTATIONS)})
    return found


def _total_variation(levels: NDArray[np.int64], cut: int) -> float:
    before, after = (np.bincount(part, minlength=len(LEVELS)) / len(part) for part in (levels[:cut], levels[cut:]))
    return float(np.abs(before - after).sum() / 2)


def prefers_first(place: int) -> bool:
    """Say whether a place prefers the first response."""
    return place <= 4
