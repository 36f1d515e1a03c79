"""What the report and the terminal show of a choice between data mixes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from herdling.base.artifact import Artifact, write_json_atomic
from herdling.cli.show import show_artifact
from herdling.plan.data_mix import describe_mixes, fit_mixes, forecast_mixes
from herdling.report.card import RunCard, StageCard, read_stage
from herdling.report.data_mix import mix_section
from herdling.report.page import html_page, markdown_page
from tests.plan.made_mixes import made_mixes

WEIGHTS = {"web": {"web": 3.0, "code": 1.0}, "half code": {"web": 1.0, "code": 1.0}, "code": {"code": 1.0}}
MADE: dict[str, Any] = {"name": "mixes", "kind": "choose_mix", "fingerprint": "f" * 64, "seconds": 1.0, "settings": {"mixes": WEIGHTS}, "parents": {}}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    fit = fit_mixes(made_mixes(noise=1e-3))
    return describe_mixes(fit, forecast_mixes(fit, 1e22, 20.0, num_worlds=50), 1e22, 20.0)


def card(found: dict[str, Any]) -> StageCard:
    return StageCard(**MADE, output="data_mix", summary={}, mixes=found, pictures={"mixes": "<svg>drawn</svg>"})


def test_each_mix_has_its_forecast_with_interval_and_chance_and_the_loss_of_every_source(found: dict[str, Any]) -> None:
    forecast, sources, weights = mix_section(card(found)).tables
    assert [row[0] for row in forecast.rows] == list(found["mixes"])
    best = found["mixes"][found["best"]]
    assert forecast.rows[0][:2] == [found["best"], f"{best['mean']:.4f}"]
    assert forecast.rows[0][2] == f"{best['interval'][0]:.4f} to {best['interval'][1]:.4f}"
    assert forecast.rows[0][3:] == ["-", "-", f"{best['chance_best']:.0%}", "8"]
    assert sources.columns == ["mix", "web", "code"]
    loss = found["mixes"]["code"]["losses"]["web"]
    code = next(row for row in sources.rows if row[0] == "code")
    assert code[1] == f"{loss['loss']:.4f} ± {loss['interval'][1] - loss['loss']:.4f}"
    assert weights.rows == [["web", "75.0%", "25.0%"], ["half code", "50.0%", "50.0%"], ["code", "0.0%", "100.0%"]]


def test_mixes_that_are_not_told_apart_are_a_warning(found: dict[str, Any]) -> None:
    assert mix_section(card({**found, "not_told_apart": []})).warnings == ()
    (warning,) = mix_section(card({**found, "best": "web", "not_told_apart": ["code", "half code"]})).warnings
    chance = f"{found['mixes']['web']['chance_best']:.0%}"
    assert warning == f"web is not told apart from code and half code: its chance to be the best is {chance}. Add small runs, the larger the better."


def test_the_page_shows_tables_and_picture_with_names_of_mixes_escaped(found: dict[str, Any]) -> None:
    hostile = {**found, "best": "<i>", "mixes": {"<i>": found["mixes"]["web"], "code": found["mixes"]["code"]}, "not_told_apart": ["code"]}
    run = RunCard(title="t", description="", seed=1, stages=(card(hostile),), scores={}, answers=(), machine={}, code={}, finished="2026-11-30")
    page = html_page(run)
    assert "Data mix: which promises the lowest loss?" in page
    assert "&lt;i&gt; is not told apart from code" in page
    assert "<i>" not in page
    assert "data:image/svg+xml;base64," in page
    assert "## mixes: Forecast of each mix" in markdown_page(run)
    assert "<i>" not in markdown_page(run).replace(r"\<i\>", "")


def test_show_prints_the_tables(found: dict[str, Any], tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "mixes.json", {**found, "best": "web", "not_told_apart": ["code"]})
    (tmp_path / "mixes.svg").write_text("<svg/>")
    manifest = {**MADE, "output": "data_mix", "summary": {}, "finished": "2026-11-30"}
    artifact = Artifact(tmp_path, manifest)
    assert read_stage(artifact).mixes["best"] == "web"
    console = Console(record=True, width=200, highlight=False)
    show_artifact(console, artifact, as_json=False)
    text = console.export_text()
    assert "web is not told apart from code" in text
    assert "Forecast of each mix" in text
    assert json.dumps(round(found["mixes"]["web"]["mean"], 4)) in text
