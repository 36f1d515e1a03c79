from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from herdling.base.decode import decode, encode
from herdling.base.errors import SettingsError
from herdling.preference.campaign import CampaignConfig, VariantConfig, draw_variants
from tests.preference.desk import PLAIN


def test_settings_survive_plain_data() -> None:
    assert decode(CampaignConfig, encode(PLAIN), "campaign") == PLAIN


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"name": "Not a name"}, "campaign.name: found 'Not a name'"),
        ({"models": {"a": VariantConfig(model="a", temperatures=(1.0,))}}, "found one model at one temperature"),
        ({"models": {"a": VariantConfig(model="a", temperatures=(-1.0, 2.0))}}, r"models.a.temperatures: found \[-1.0, 2.0\]"),
        ({"gold_share": 0.9}, "gold_share: found 0.9, expected 0 to 0.5"),
        ({"overlap": 0}, "overlap: found 0"),
        ({"lease_seconds": 0.0}, "lease_seconds: found 0.0"),
    ],
)
def test_settings_that_cannot_hold_are_refused_by_name(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        replace(PLAIN, **changes)


def test_the_two_variants_differ_in_model_and_temperature_and_every_pair_comes_up() -> None:
    drawn = [draw_variants(PLAIN, task) for task in range(200)]
    assert all(first[0] != second[0] and first[1] != second[1] for first, second in drawn)
    assert {(first[:2], second[:2]) for first, second in drawn} == {
        (("a", 0.5), ("b", 1.0)),
        (("a", 1.0), ("b", 0.5)),
        (("b", 0.5), ("a", 1.0)),
        (("b", 1.0), ("a", 0.5)),
    }
    assert len({seed for pair in drawn for *_, seed in pair}) == 400


def test_models_differ_where_temperatures_cannot_and_one_model_is_compared_with_itself() -> None:
    cold = {name: VariantConfig(model=name, temperatures=(0.7,)) for name in ("a", "b")}
    assert {pair[0] for pair in draw_variants(replace(PLAIN, models=cold), 1)} == {"a", "b"}
    alone = {"a": VariantConfig(model="a", temperatures=(0.5, 1.0))}
    assert {pair[1] for pair in draw_variants(replace(PLAIN, models=alone), 1)} == {0.5, 1.0}


def test_the_same_name_draws_the_same_and_another_seed_draws_otherwise() -> None:
    assert draw_variants(PLAIN, 7, 0) == draw_variants(PLAIN, 7, 0)
    assert draw_variants(PLAIN, 7, 0) != draw_variants(PLAIN, 7, 1)
    assert draw_variants(PLAIN, 7, 0) != draw_variants(replace(PLAIN, seed=1), 7, 0)
