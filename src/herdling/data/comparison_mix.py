"""Which comparisons a reward model learns from (Llama 2, section 3.2.2, "Data Composition"): all of the main sets, and a stated share drawn from side sets.

Helpfulness: all helpfulness data and as much again, drawn evenly from safety and open sets (`side_share` 0.5). Safety: all safety and harmless data, and a
tenth of helpfulness data (`side_share` 0.1). What was planned and what was drawn goes to the ledger. Costs one pass; the same seed draws the same
comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from herdling.base.decode import settings
from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream
from herdling.types import Comparison

MIX = "comparison_mix"
"""The name of the ledger's count that holds one row a set."""


@settings
class MixConfig:
    """Which sets a reward model learns from, and in which proportions."""

    main: tuple[str, ...]
    """Sets that are taken whole, by their names in `comparisons`."""
    side: tuple[str, ...] = ()
    """Sets that are drawn from evenly, without repetition; what a small set cannot give, the others give."""
    side_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of side comparisons in the whole: 0.5 is Llama 2's helpfulness mix, 0.1 its safety mix."""

    def __post_init__(self) -> None:
        if not self.main:
            raise SettingsError("mix.main: names no set; name those that are taken whole")
        names = [*self.main, *self.side]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SettingsError(f"mix: the set {twice!r} is named twice; a set is either main or side")
        if bool(self.side) != (self.side_share > 0):
            raise SettingsError(f"mix: side names {len(self.side)} sets and side_share is {self.side_share:g}; give both, or neither")


def draw(mix: MixConfig, sets: Mapping[str, Sequence[Comparison]], seed: int, ledger: Ledger) -> list[Comparison]:
    """Return the comparisons of a mix in a shuffled order; write one row a set (available, planned, drawn) to the ledger's count `comparison_mix`.

    With n comparisons in the main sets and side share s, n s / (1 - s) (rounded) are planned from the side, the same number from each set. When all side sets
    together hold fewer, all of them are taken, and the ledger shows the shortfall.

    Raises:
        SettingsError: the mix names a set that is not there.
        DataError: a main set is empty.
    """
    for name in (*mix.main, *mix.side):
        if name not in sets:
            raise SettingsError(f"mix: no set is called {name!r}{did_you_mean(name, sets)}; there are: {', '.join(sets)}")
    empty = next((name for name in mix.main if not sets[name]), None)
    if empty is not None:
        raise DataError(f"mix: the main set {empty!r} holds no comparison to train on")
    num_main = sum(len(sets[name]) for name in mix.main)
    wanted = round(num_main * mix.side_share / (1 - mix.side_share))
    planned = even_counts(wanted, dict.fromkeys(mix.side, wanted))
    drawn = even_counts(wanted, {name: len(sets[name]) for name in mix.side})
    chosen: list[Comparison] = [comparison for name in mix.main for comparison in sets[name]]
    for name in mix.side:
        picks = stream(seed, "comparison mix", name).permutation(len(sets[name]))[: drawn[name]]
        chosen += [sets[name][index] for index in sorted(picks)]
    rows = [{"set": name, "part": "main", "available": len(sets[name]), "planned": len(sets[name]), "drawn": len(sets[name])} for name in mix.main]
    rows += [{"set": name, "part": "side", "available": len(sets[name]), "planned": planned[name], "drawn": drawn[name]} for name in mix.side]
    rows += [
        {"set": name, "part": "none", "available": len(sets[name]), "planned": 0, "drawn": 0} for name in sets if name not in planned | dict.fromkeys(mix.main)
    ]
    ledger.counts[MIX] = rows
    return [chosen[index] for index in stream(seed, "comparison mix", "order").permutation(len(chosen))]


def even_counts(total: int, available: Mapping[str, int]) -> dict[str, int]:
    """Share `total` out as evenly as the sets allow: no set gives more than it has, and sets that give less than others give all."""
    counts = dict.fromkeys(available, 0)
    left = min(total, sum(available.values()))
    while left:
        givers = [name for name in available if counts[name] < available[name]]
        # At least one round of one each; the first names carry a remainder.
        each = max(1, min(left // len(givers), *(available[name] - counts[name] for name in givers)))
        for name in givers[:left]:
            counts[name] += each
            left -= each
    return counts
