"""The benchmark of useful time covers every tier and cause, and its numbers come from played runs."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from herdling.plan.failures import LLAMA3


def test_the_grid_covers_every_tier_and_cause(script: Callable[[str], ModuleType]) -> None:
    goodput = script("goodput")
    cases = goodput.grid(LLAMA3)
    assert {name for name, *_ in cases} == {"sync", "async", "memory", "replicas", "maintenance", "spares", "stragglers", "corruption"}
    assert len(cases) > 60


def test_differences_are_of_played_runs(script: Callable[[str], ModuleType]) -> None:
    goodput = script("goodput")
    cases = [next(case for case in goodput.grid(LLAMA3) if case[0] == name) for name in ("sync", "memory")]
    found = goodput.compare(cases, 100.0)
    assert found["failures_played"] > 300
    assert 0 < found["worst_difference"] < 0.02
