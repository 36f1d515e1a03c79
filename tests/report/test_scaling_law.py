"""What the report and the terminal show of a sweep and of a model that it forecast."""

import numpy as np
import pytest

from herdling.plan.measurements import LossRows
from herdling.plan.sweep import forecast_sweep
from herdling.report.card import StageCard
from herdling.report.scaling_law import has_law, law_section

MADE = {"name": "sweep", "kind": "scaling_laws", "output": "scaling_law", "fingerprint": "f", "seconds": 1.0, "settings": {}, "parents": {}}
FORECAST = {
    "parameters": 1_000_000,
    "tokens": 3e7,
    "loss": 2.5,
    "low": 2.4,
    "high": 2.6,
    "law": 2.55,
    "by_exact_flops": {"parameters": 9e5, "tokens": 3.3e7},
}
LAW = {"convention": "N counts all weights", "largest_exact_ratio": 1.27, "left_out": [{"name": "1e12-60K", "reason": "diverged: <b>"}]}
SUMMARY = {"held_out_tokens": 262_144, "held_out_error": 0.0021, "held_out_error_of_level": 0.012}
PICTURES = {"isoflop": "<svg>a</svg>", "law": "<svg>b</svg>", "loss_forecast": "<svg>c</svg>"}


@pytest.fixture(scope="module")
def fit():
    flops = np.repeat([1e12, 2e12, 4e12, 8e12], 5)
    parameters = np.sqrt(flops / 240) * np.tile([0.3, 0.6, 1.0, 1.6, 3.0], 4)
    tokens = flops / 6 / parameters
    loss = 1.6 + 30 * parameters**-0.28 + 45 * tokens**-0.22
    rows = LossRows(name="x", flops=flops, parameters=parameters, tokens=tokens, loss=loss, lines=tuple(range(2, 22)), convention="N")
    return forecast_sweep(rows, [6.4e13], num_bootstraps=20)


def sweep_card(fit, **values):
    made = {**MADE, "summary": SUMMARY, "scaling_law": {"law": LAW, "fit": fit, "forecast": {"6.4e13": FORECAST}}, "pictures": PICTURES}
    return StageCard(**{**made, **values})


def test_a_sweep_shows_forecast_methods_budgets_and_what_was_left_out(fit):
    section = law_section(sweep_card(fit))
    forecast, methods, budgets = section.tables
    assert forecast.rows[0] == ["6.4e13", "1M", "30M", "2.500", "2.400 to 2.600", "2.550", "900K on 33M"]
    assert [row[0] for row in methods.rows] == ["parabolas (Llama 3)", "parametric law"]
    assert "times the tokens of the parametric law" in methods.note
    assert [row[1] for row in budgets.rows] == ["5"] * 4
    assert section.warnings == ("Left out of the fit: 1e12-60K, diverged: <b>",)
    assert any("1.27 times 6ND" in note for note in section.notes)
    assert any("known to 0.0021 nats" in note for note in section.notes)


def test_pictures_are_images_whose_style_stays_inside(fit):
    charts = law_section(sweep_card(fit)).charts
    assert len(charts) == 2
    for chart in charts:
        assert chart.picture.startswith('<img alt="sweep: ')
        assert "<svg" not in chart.picture


def test_an_optimum_outside_the_runs_is_a_warning(fit):
    moved = {**fit, "isoflop": {**fit["isoflop"], "budgets": [{**fit["isoflop"]["budgets"][0], "inside": False}]}}
    assert "outside the runs at 1e+12" in law_section(sweep_card(moved)).warnings[0]


def test_a_model_stands_beside_its_forecast():
    found = {"parameters": 1e6, "tokens": 3e7, "times_largest_budget": 8.0, "loss": 2.5, "low": 2.4, "high": 2.6, "measured": 2.55, "relative_error": 0.02}
    made = {**MADE, "name": "pretrain", "kind": "pretrain", "output": "model", "summary": {}, "pictures": PICTURES}
    card = StageCard(**made, loss_forecast={**found, "in_interval": True})
    (table,) = law_section(card).tables
    assert table.rows == [["1M", "30M", "8.0", "2.5000", "2.4000 to 2.6000", "2.5500", "+2.00%", "yes"]]
    assert has_law(card)
    assert not has_law(StageCard(**made))


def test_a_loss_that_was_not_forecast_says_why():
    made = {**MADE, "summary": {}, "pictures": {}}
    (table,) = law_section(StageCard(**made, loss_forecast={"measured": 2.5, "not_forecast": "too few"})).tables
    assert table.rows == [["2.5000", "too few"]]
