"""The quickstart's sizes: this machine keeps what the README promises, a faster one raises a larger model in the same time, a slower one never a smaller."""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from herdling.base.errors import SettingsError
from herdling.plan.rungs import RUNGS, WHOLE_SECONDS, choose_rung, larger_minutes, rung_for, stage_seconds, whole_seconds
from herdling.recipe import load_recipe
from tests.plan.made_machine import made_machine

RECIPES = Path(str(files("herdling"))) / "recipes"


def test_the_first_rung_is_the_recipe_as_it_is_written() -> None:
    stage = load_recipe(RECIPES / "quickstart.toml").stages["pretrain"]
    turned = load_recipe(RECIPES / "quickstart.toml", RUNGS[0].overrides).stages["pretrain"]
    assert turned == stage
    assert RUNGS[0].config.num_parameters() == 1_328_256


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.size)
def test_every_rung_is_a_recipe_and_reads_no_text_more_than_four_times(rung) -> None:
    stage = load_recipe(RECIPES / "quickstart.toml", rung.overrides).stages["pretrain"]
    assert (stage.size, stage.num_tokens, stage.batch, stage.optimizer.lr) == (rung.size, rung.num_tokens, rung.batch, rung.lr)
    assert float(rung.num_tokens.removesuffix("M")) <= 4 * 2.9


def test_each_rung_is_larger_and_takes_longer() -> None:
    law = made_machine().law
    assert [rung.config.num_parameters() for rung in RUNGS] == sorted(rung.config.num_parameters() for rung in RUNGS)
    times = [whole_seconds(law, rung) for rung in RUNGS]
    assert all(later > 1.15 * earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize(("speed", "size"), [(0.4, "1.3M"), (0.5, "1.3M"), (0.9, "1.3M"), (1.0, "1.3M"), (1.15, "1.3M"), (4.0, "5M"), (20.0, "10M")])
def test_faster_machines_raise_larger_models_and_slower_ones_keep_the_first(speed: float, size: str) -> None:
    rung, seconds = choose_rung(made_machine(speed).law)
    assert rung.size == size
    assert seconds <= WHOLE_SECONDS or rung == RUNGS[0]


def test_a_faster_machine_never_raises_a_smaller_model() -> None:
    chosen = [RUNGS.index(choose_rung(made_machine(speed).law)[0]) for speed in (0.3, 0.6, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 48)]
    assert chosen == sorted(chosen)


def test_finished_runs_that_were_slower_than_forecast_count() -> None:
    law = made_machine(4.0).law
    assert RUNGS.index(choose_rung(law, factor=2.5)[0]) < RUNGS.index(choose_rung(law)[0])


def test_what_follows_pre_training_is_most_of_the_quickstart() -> None:
    parts = stage_seconds(made_machine().law, RUNGS[0])
    assert sum(parts.values()) == pytest.approx(627, rel=0.1)  # 10 min 27 s were measured on two cores (docs/log.md)
    assert parts["pretrain"] == pytest.approx(4e6 / 36_233, rel=0.1)  # benchmarks/results/training-1.3M.json
    assert parts["what follows"] > parts["pretrain"]


def test_a_time_that_is_asked_for_is_kept_or_refused_with_the_least() -> None:
    law = made_machine().law
    rung, seconds = rung_for(law, 3600)
    assert RUNGS.index(rung) >= 3
    assert seconds <= 3600
    with pytest.raises(SettingsError, match=r"1m 00s are too few here: .* takes \d+m \d\ds on this machine. Give it --budget \d+m"):
        rung_for(law, 60)


def test_the_minutes_for_a_larger_rung_raise_just_that() -> None:
    law = made_machine().law
    for rung, larger in pairwise(RUNGS):
        minutes = larger_minutes(law, rung)
        assert minutes is not None
        assert whole_seconds(law, rung) < 60 * (minutes - 1) < whole_seconds(law, larger) <= 60 * minutes
        assert rung_for(law, 60 * minutes)[0] == larger
    assert larger_minutes(law, RUNGS[-1]) is None
