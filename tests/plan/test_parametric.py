"""The parametric fit gives a known law back, and Besiroglu's optimum from Chinchilla's points (kit: HERDLING_KIT, else ../shared/kit by the project)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from herdling.base.errors import DataError, SettingsError
from herdling.plan.measurements import read_losses
from herdling.plan.parametric import HUBER_DELTA, fit_laws, fit_parametric
from tests.plan.made_sweep import TRUTH, made_sweep

KIT = Path(os.environ.get("HERDLING_KIT") or Path(__file__).parents[2] / "../shared/kit") / "scaling"
needs_kit = pytest.mark.skipif(not KIT.is_dir(), reason=f"the kit is not at {KIT} (set HERDLING_KIT)")


def test_a_law_without_noise_comes_back() -> None:
    fit = fit_parametric(made_sweep())
    for name, value in TRUTH.as_dict().items():
        assert getattr(fit.law, name) == pytest.approx(value, rel=1e-4), name


def test_a_few_wild_losses_move_little_and_a_policy_names_what_it_drops() -> None:
    rows = made_sweep(noise=1e-3)
    loss = rows.loss.copy()
    loss[[3, 20]] *= 1.5
    wild = replace(rows, loss=loss)
    assert fit_parametric(wild).law.parameter_exponent == pytest.approx(fit_parametric(rows).law.parameter_exponent, abs=0.02)
    assert {5, 22} <= set(fit_parametric(wild, outliers="residual:8").dropped_lines)
    assert fit_parametric(wild, outliers="highest:1").dropped_lines == (5,)


def test_the_optimum_is_flat_in_every_direction() -> None:
    rows = made_sweep(noise=5e-3)
    weights = np.ones((1, len(rows.loss)))
    theta, value = fit_laws(rows.parameters, rows.tokens, np.log(rows.loss)[None], weights)

    def objective(point: np.ndarray) -> float:
        e, a, b, alpha, beta = point
        loss = np.exp(e) + np.exp(a - alpha * np.log(rows.parameters)) + np.exp(b - beta * np.log(rows.tokens))
        residual = np.abs(np.log(loss) - np.log(rows.loss))
        return float(np.where(residual <= HUBER_DELTA, residual**2 / 2, HUBER_DELTA * (residual - HUBER_DELTA / 2)).sum())

    assert objective(theta[0]) == pytest.approx(value[0], rel=1e-9)
    generator = np.random.default_rng(1)
    for size in (1e-2, 1e-3, 1e-4):
        for _ in range(200):
            assert objective(theta[0] + size * generator.standard_normal(5)) >= value[0] * (1 - 1e-9)


def test_a_batch_is_the_same_as_one_at_a_time() -> None:
    rows = made_sweep(noise=5e-3)
    weights = np.random.default_rng(2).integers(0, 3, size=(4, len(rows.loss))).astype(float)
    together, _ = fit_laws(rows.parameters, rows.tokens, np.log(rows.loss)[None], weights)
    for row, law in zip(weights, together, strict=True):
        alone, _ = fit_laws(rows.parameters, rows.tokens, np.log(rows.loss)[None], row[None])
        np.testing.assert_allclose(law, alone[0], rtol=1e-5)


@pytest.mark.parametrize("policy", ["drop", "highest:0", "highest", "residual:-1", "highest:x"])
def test_unknown_outlier_policy_is_refused(policy: str) -> None:
    with pytest.raises(SettingsError, match="expected keep, highest:K"):
        fit_parametric(made_sweep(), outliers=policy)


def test_too_few_or_too_equal_runs_are_refused() -> None:
    rows = made_sweep()
    with pytest.raises(DataError, match="2 usable points"):
        fit_parametric(rows.take(np.arange(2)))
    with pytest.raises(DataError, match="different sizes"):
        fit_parametric(replace(rows, parameters=np.full(len(rows.loss), 1e8)))


@needs_kit
def test_besiroglu_optimum_from_chinchilla_points() -> None:
    fit = fit_parametric(read_losses(KIT / "chinchilla_svg_extracted.csv"), outliers="highest:5")
    assert fit.num_points == 240
    assert fit.objective <= 1.018275e-3
    for name, value in {"A": 477.826, "B": 2143.417, "E": 1.817218, "alpha": 0.347311, "beta": 0.367172}.items():
        assert getattr(fit.law, name) == pytest.approx(value, rel=1e-3), name


def test_one_compute_tells_nothing_of_another() -> None:
    rows = made_sweep(num_budgets=1)
    with pytest.raises(DataError, match="about the same compute"):
        fit_parametric(rows)


def test_large_runs_may_count_more() -> None:
    rows = made_sweep()
    bent = replace(rows, loss=rows.loss * np.where(rows.flops < 1e19, 1.02, 1.0))
    largest = rows.flops == rows.flops.max()
    errors = []
    for power in (0.0, 2.0):
        law = fit_parametric(bent, large_runs=power, delta=1.0).law
        errors.append(float(np.abs(law.loss(rows.parameters[largest], rows.tokens[largest]) / rows.loss[largest] - 1).mean()))
    assert errors[1] < errors[0]
