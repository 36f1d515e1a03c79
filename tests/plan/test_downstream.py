"""A made ladder is forecast right; the published ladder's chained errors come back (kit: HERDLING_KIT, else ../shared/kit by the project)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from herdling.base.errors import DataError
from herdling.plan.downstream import fit_ladder
from herdling.plan.ladder import chosen_tasks, read_ladder, split_ladder, with_curves
from herdling.plan.ladder_forecast import forecast_ladder
from herdling.plan.sigmoid import Sigmoid, fit_sigmoid
from tests.plan.made_ladder import EXPONENT, TASKS, made_ladder, true_bits
from tests.plan.test_parametric import KIT, needs_kit


def test_sigmoid_without_noise_comes_back() -> None:
    truth = Sigmoid(top=1.0, drop=0.7, slope=9.0, middle=0.8)  # 1 at 0 bits, as every fit is bound to be
    bits = np.append(np.linspace(0.4, 1.8, 60), np.full(2000, 1.0))
    found = fit_sigmoid(bits, np.array([truth.accuracy(value) for value in bits]))
    for value in (0.5, 0.8, 1.5):
        assert found.accuracy(value) == pytest.approx(truth.accuracy(value), abs=2e-3)


def test_shared_exponent_and_larger_runs_of_a_made_ladder_come_back() -> None:
    fitted, larger = split_ladder(made_ladder(), 1e9)
    fit = fit_ladder(fitted, back_test=False)
    assert fit.exponents == pytest.approx((EXPONENT, EXPONENT), abs=0.01)
    for run in larger:
        for task in TASKS:
            found = fit.forecast(run, task)
            assert found.bits == pytest.approx(true_bits(task, run.parameters, run.tokens), rel=2e-3)
            assert found.accuracy == pytest.approx(run.tasks[task].final_accuracy, abs=0.02)


def test_one_exponent_forecasts_better_than_one_each_where_runs_are_noisy() -> None:
    errors = {"shared": 0.0, "per_task": 0.0}
    for seed in range(3):
        fitted, larger = split_ladder(made_ladder(noise=0.01, seed=seed, ratios=(20, 50, 100)), 1e9)
        for form in ("shared", "per_task"):
            fit = fit_ladder(fitted, form=form, back_test=False)
            errors[form] += sum(abs(fit.bits[task](run) / true_bits(task, run.parameters, run.tokens) - 1) for run in larger for task in TASKS)
    assert errors["shared"] < errors["per_task"]


def test_intervals_of_made_ladders_cover() -> None:
    covered = []
    for seed in range(5):
        fitted, larger = split_ladder(made_ladder(noise=0.01, seed=seed), 1e9)
        covered.append(forecast_ladder(fitted, larger)["coverage"])
    assert 0.8 <= np.mean(covered) <= 1.0


def test_two_sizes_have_no_back_test_and_no_interval() -> None:
    fitted, larger = split_ladder(made_ladder(sizes=(1e8, 3e8, 1e9)))
    found = forecast_ladder(fitted, larger)
    assert found["spread"] is None
    assert found["coverage"] is None
    assert all(row["interval"] is None for run in found["runs"].values() for row in run["tasks"].values())


def test_llama3_form_is_linear_in_log_compute() -> None:
    fitted, larger = split_ladder(made_ladder(), 1e9)
    fit = fit_ladder(fitted, form="llama3", back_test=False)
    by_flops = sorted(larger, key=lambda run: run.flops)
    bits = [fit.bits["easy"](run) for run in by_flops]
    slopes = np.diff(bits) / np.diff(np.log([run.flops for run in by_flops]))
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)


def test_a_single_size_is_refused() -> None:
    with pytest.raises(DataError, match="6 runs of 2 sizes"):
        fit_ladder(made_ladder(sizes=(1e8,)))


@needs_kit
def test_published_chained_errors_come_back() -> None:
    reference = json.loads((KIT / "olmo_ladder_reference_predictions.json").read_text(encoding="utf-8"))["reference"]["chained_main"]
    tasks = [row["Task"] for row in reference]
    runs = chosen_tasks(with_curves(read_ladder(KIT / "olmo_ladder_final.csv"), read_ladder(KIT / "olmo_ladder_trajectory.csv.gz")), tasks)
    fit = fit_ladder([run for run in runs if run.marked], form="per_task", back_test=False)
    target = next(run for run in runs if run.name == "peteish13_eval_final")
    for row in reference:
        actual = target.tasks[row["Task"]].final_accuracy
        assert abs(fit.forecast(target, row["Task"]).accuracy / actual - 1) == pytest.approx(float(row["Rel Error"]), abs=1e-4), row["Task"]
