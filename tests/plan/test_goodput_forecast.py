"""Wall-clock and GPU-hours: Llama 3 explained, intervals that cover, what would change a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from herdling.base.errors import SettingsError
from herdling.base.seeds import stream
from herdling.plan.failures import Rates
from herdling.plan.goodput_forecast import Run, forecast, llama3_run, seconds_of, what_if
from herdling.plan.goodput_simulation import simulate
from herdling.plan.saving import Recovery, Saving

SMALL = Run(
    num_gpus=64,
    tokens=1e9,
    tokens_per_second=1e3,
    rates=Rates(server=4e-5, job=1e-5),
    saving=Saving(interval_seconds=600, pause_seconds=20),
    recovery=Recovery(restart_seconds=300),
)


def test_llama3_is_over_90_percent_with_5_second_pauses_and_5_minute_restarts() -> None:
    run = llama3_run()
    assert run.goodput.efficiency > 0.9
    assert run.goodput.failures == pytest.approx(0.945, abs=6e-4)  # the reference's table at 5 s and 300 s
    assert llama3_run(pause_seconds=30, restart_seconds=600).goodput.efficiency < 0.9


def test_llama3_gpu_hours_are_near_the_published() -> None:
    assert forecast(llama3_run(), num_runs=20).gpu_hours == pytest.approx(30.84e6, rel=0.07)


def test_a_token_of_llama3_costs_what_its_preset_says() -> None:
    layers, width, heads, kv, ffn, vocabulary, length = 126, 16384, 128, 8, 53248, 128256, 8192
    weights = layers * (width * (2 * heads + 2 * kv) * 128 + 3 * width * ffn) + vocabulary * width
    assert 6 * weights + 6 * layers * heads * 128 * length == pytest.approx(2.524e12, rel=1e-3)


def test_mean_and_interval_of_played_runs_hold_the_closed_form() -> None:
    found = forecast(SMALL, num_runs=100)
    assert found.low_seconds < found.seconds < found.high_seconds
    assert found.simulated_efficiency == pytest.approx(found.goodput.efficiency, abs=0.002)
    assert found.gpu_hours == pytest.approx(1e6 / found.goodput.efficiency / 3600 * 64)


def test_nine_of_ten_new_runs_fall_within_the_interval() -> None:
    found = forecast(SMALL, num_runs=400)
    generator = stream(9, "other runs")
    times = [simulate(SMALL.useful_seconds, SMALL.rates, SMALL.saving, SMALL.recovery, generator).seconds for _ in range(400)]
    assert 0.85 <= sum(found.low_seconds <= time <= found.high_seconds for time in times) / 400 <= 0.95


def test_few_counted_failures_widen_the_interval() -> None:
    known, counted = forecast(SMALL), forecast(replace(SMALL, num_counted=5))
    assert counted.high_seconds - counted.low_seconds > 1.5 * (known.high_seconds - known.low_seconds)


def test_what_if_is_better_where_it_must_be() -> None:
    rows = dict(what_if(replace(SMALL, recovery=Recovery(restart_seconds=300, maintenance_every_seconds=86400, maintenance_seconds=600))))
    planned = rows["as planned"].goodput.efficiency
    best = rows["at the best interval"].goodput.efficiency
    assert best >= planned
    for what in ("restart in half the time", "half the pause of a save", "half the failures", "no planned maintenance"):
        assert rows[what].goodput.efficiency > best
    twice = rows["twice the GPUs, twice the speed"]
    assert twice.goodput.efficiency < best
    assert seconds_of(rows["at the best interval"]) / 2 < seconds_of(twice) < seconds_of(rows["at the best interval"])


def test_an_interval_longer_than_the_run_is_refused() -> None:
    with pytest.raises(SettingsError, match="nothing would ever be saved"):
        replace(SMALL, saving=Saving(interval_seconds=2e6, pause_seconds=20))


@pytest.mark.parametrize(("name", "value"), [("tokens", 0.0), ("tokens_per_second", -1.0), ("num_gpus", 0)])
def test_no_run_at_all_is_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"run.{name}: found"):
        replace(SMALL, **{name: value})


def test_a_hopeless_run_is_told_so() -> None:
    with pytest.raises(SettingsError, match="does not come forward"):
        forecast(replace(SMALL, rates=Rates(job=1.0)))
    with pytest.raises(SettingsError, match="at least 2 / "):
        forecast(SMALL, num_runs=3)
