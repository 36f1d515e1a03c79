"""Parabolas give the optimum of a known law back, and Llama 3's figure 3 from its points (kit: HERDLING_KIT, else ../shared/kit by the project)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from herdling.base.errors import DataError
from herdling.plan.isoflop import budgets, fit_envelope, fit_isoflop
from herdling.plan.measurements import LossRows, read_losses
from tests.plan.made_sweep import TRUTH, made_sweep
from tests.plan.test_parametric import KIT, needs_kit


def test_optimal_tokens_of_a_known_law_come_back() -> None:
    law = fit_isoflop(made_sweep(reach=0.5))
    assert law.alpha == pytest.approx(1 - TRUTH.parameter_exponent, abs=2e-3)
    assert law.tokens(1e19) == pytest.approx(TRUTH.allocate(1e19).tokens, rel=0.01)
    assert all(valley.inside for valley in law.valleys)
    assert law.parameters(1e19) * law.tokens(1e19) * 6 == pytest.approx(1e19)


def test_budgets_are_told_apart_by_compute() -> None:
    rows = made_sweep()
    jitter = replace(rows, flops=rows.flops * np.exp(0.02 * np.sin(np.arange(len(rows.flops)))))
    assert [len(group) for group in budgets(jitter)] == [9] * 6


def test_a_budget_without_its_optimum_can_be_left_out() -> None:
    rows = made_sweep()
    last = np.flatnonzero(rows.flops == rows.flops.max())
    cut = rows.take(np.concatenate([np.arange(last[0]), last[-3:]]))
    assert len(fit_isoflop(cut).valleys) == 6
    assert len(fit_isoflop(cut, only_inside=True).valleys) == 5


def test_envelope_of_training_curves_finds_the_exponent() -> None:
    sizes, steps = np.meshgrid(10 ** np.linspace(6.5, 9.5, 25), np.linspace(1, 200, 400))
    size, tokens = sizes.ravel(), (sizes * steps).ravel()
    loss, lines = TRUTH.loss(size, tokens), tuple(range(len(size)))
    rows = LossRows(name="curves", flops=6 * size * tokens, parameters=size, tokens=tokens, loss=loss, lines=lines, convention="parameters")
    law = fit_envelope(rows)
    assert law.alpha == pytest.approx(1 - TRUTH.parameter_exponent, abs=0.03)


def test_one_budget_two_sizes_or_a_hill_are_refused() -> None:
    rows = made_sweep()
    with pytest.raises(DataError, match="1 usable compute budget;"):
        fit_isoflop(rows.take(np.flatnonzero(rows.flops == rows.flops.min())))
    with pytest.raises(DataError, match=r"line 2, 3: .* has 2 runs"):
        fit_isoflop(rows.take(np.array([0, 1, *range(9, 54)])))
    with pytest.raises(DataError, match="do not curve upward"):
        fit_isoflop(replace(rows, loss=10 - rows.loss))
    with pytest.raises(DataError, match="herdling fit parametric"):
        fit_isoflop(replace(rows, flops=np.geomspace(1e18, 1e20, len(rows.flops))))


@needs_kit
def test_llama_3_figure_3_from_its_points() -> None:
    law = fit_isoflop(read_losses(KIT / "llama3_isoflops_points.csv"))
    assert round(law.alpha, 3) == 0.537
    assert round(law.A, 3) == 0.299
    assert 16.0e12 <= law.tokens(3.8e25) <= 16.2e12
