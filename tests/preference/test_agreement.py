from __future__ import annotations

from collections.abc import Sequence

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdling.preference.agreement import Observation, drift, krippendorff_alpha, summary, with_others
from herdling.preference.rating import LEVELS, Side


def observation(
    task: int, annotator: str, place: int, *, number: int = 1, side: Side = "left", gold: bool | None = None, before: int | None = None
) -> Observation:
    level = LEVELS[place - 1 if place <= 4 else 8 - place]
    return Observation(task=task, annotator=annotator, round=number, side=side, rating=level, place=place, seconds=float(place), gold=gold, before=before)


@given(st.lists(st.lists(st.integers(1, 8), min_size=0, max_size=5), min_size=1, max_size=25))
@settings(max_examples=300, deadline=None)
def test_alpha_is_that_of_the_library(units: Sequence[Sequence[int]]) -> None:
    pairable = [unit for unit in units if len(unit) > 1]
    ours = krippendorff_alpha(units)
    if len({value for unit in pairable for value in unit}) < 2:
        assert ours is None
        return
    counts = np.array([[unit.count(value) for value in range(1, 9)] for unit in map(list, pairable)])
    theirs = krippendorff.alpha(value_counts=counts, value_domain=list(range(1, 9)), level_of_measurement="ordinal")
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_alpha_of_krippendorffs_own_example() -> None:
    # Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), data C: four observers, ordinal alpha 0.815.
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_the_numbers_of_a_campaign_count_what_they_say() -> None:
    seen = [
        observation(1, "ann", 1),
        observation(1, "bob", 4, side="right"),
        observation(2, "ann", 2),
        observation(2, "bob", 7),
        observation(3, "ann", 8, side="right", gold=True),
        observation(4, "ann", 3, gold=False),
        observation(5, "ann", 2, before=1),
    ]
    numbers = summary(seen)
    assert numbers["judgements"] == 7
    assert (numbers["same_side"]["hits"], numbers["same_side"]["total"]) == (1, 2)  # tasks 1 (both first) and 2 (not)
    assert (numbers["same_place"]["hits"], numbers["same_place"]["total"]) == (0, 2)
    assert (numbers["gold"]["hits"], numbers["gold"]["total"]) == (1, 2)
    assert (numbers["repeats"]["hits"], numbers["repeats"]["total"]) == (1, 1)
    assert (numbers["left"]["hits"], numbers["left"]["total"]) == (5, 7)
    assert numbers["levels"] == {"significantly": 2, "better": 3, "slightly": 1, "negligibly": 1}
    assert numbers["seconds"] == 3.0
    assert with_others(seen, "bob")["share"] == 0.5


def test_nothing_judged_gives_no_numbers_rather_than_wrong_ones() -> None:
    numbers = summary([])
    assert (numbers["judgements"], numbers["alpha"], numbers["seconds"]) == (0, None, None)
    assert (numbers["left"]["share"], numbers["left"]["low"], numbers["left"]["high"]) == (None, 0.0, 1.0)


def test_drift_tells_a_change_of_heart_from_chance() -> None:
    steady = [observation(task, "ann", 1 + task % 4, number=1 + task // 40) for task in range(80)]
    assert [(each["distance"], each["p_value"]) for each in drift(steady)] == [(0.0, 1.0)]
    changed = [observation(task, "ann", 1 if task < 40 else 4, number=1 + task // 40) for task in range(80)]
    assert [(each["from"], each["to"], each["distance"], each["p_value"]) for each in drift(changed)] == [(1, 2, 1.0, 0.001)]
