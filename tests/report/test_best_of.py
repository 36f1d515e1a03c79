"""The report of samples: every number that of its curves, a line for each temperature, bands around them, and pre-prompts beside."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from herdling.report.best_of import samples_section
from herdling.report.card import RunCard, StageCard
from herdling.report.page import html_page, markdown_page


def curves(first: float, *, prompts: int = 40) -> dict[str, Any]:
    """Curves over k = 1, 2, 4: the maximum gains one each time, the median stays."""
    told: dict[str, Any] = {"prompts": prompts, "samples": 4 * prompts, "unusable": 16, "k": [1, 2, 4]}
    for kind, gain in (("max", 1.0), ("median", 0.0), ("mean", 0.0)):
        values = [first + place * gain for place in range(3)]
        known = prompts > 1
        bounds = {"low": [value - 0.5 for value in values], "high": [value + 0.5 for value in values]} if known else {"low": None, "high": None}
        told[kind] = {"value": values, **bounds}
    return told


def stage(**results: Any) -> StageCard:
    made: dict[str, Any] = {
        "name": "rs",
        "kind": "rejection_sampling",
        "output": "samples",
        "fingerprint": "f" * 64,
        "seconds": 1.0,
        "settings": {},
        "summary": {},
    }
    return StageCard(**made, parents={}, **results)


RESULTS = {
    "num_samples": 4,
    "temperature": 1.2,
    "held_out": [{"temperature": 0.8, **curves(0.5)}, {"temperature": 1.2, **curves(0.75)}],
    "train": curves(0.25, prompts=400),
}
PREPROMPTS = {"tailored": {"prompts": 50, "bettered": 0.4, "interval": [0.28, 0.54], "worse": 5, "lead": 0.3, "lead_interval": [0.1, 0.5]}}


def test_the_table_has_a_row_for_each_temperature_and_one_for_training() -> None:
    (table,) = samples_section(stage(curves=RESULTS)).tables
    assert table.columns[-1] == "best of 4"
    assert table.rows[0] == ["0.8", "40", "10.0%", "0.50 (0.00 to 1.00)", "0.50 (0.00 to 1.00)", "2.50 (2.00 to 3.00)"]
    assert [row[0] for row in table.rows] == ["0.8", "1.2 (chosen)", "1.2, training"]
    assert table.rows[2][1] == "400"


def test_pictures_have_a_line_for_each_curve_and_bands_where_temperatures_are_not_compared() -> None:
    charts = samples_section(stage(curves=RESULTS)).charts
    assert [len(chart.labels) for chart in charts] == [2, 2, 3]
    for chart in charts:
        svg = ET.fromstring(str(chart.picture))
        kinds = [one.get("class", "").split()[0] for one in svg.iter() if one.tag in ("polyline", "polygon")]
        assert kinds.count("line") == len(chart.labels)
        assert kinds.count("band") == (0 if "held-out" in chart.title else 3)


def test_a_band_lies_around_its_line() -> None:
    svg = ET.fromstring(str(samples_section(stage(curves=RESULTS)).charts[2].picture))
    (line, *_), (band, *_) = (list(svg.iter(tag)) for tag in ("polyline", "polygon"))
    points, outline = ([tuple(map(float, point.split(","))) for point in one.get("points", "").split()] for one in (line, band))
    for place, (x, y) in enumerate(points):
        below, above = outline[place], outline[-1 - place]
        assert below[0] == above[0] == x
        assert (below[1] + above[1]) / 2 == pytest.approx(y, abs=0.1)
        assert below[1] > y > above[1]


def test_one_sample_or_one_prompt_draws_nothing_that_is_not_known() -> None:
    single = {**curves(0.5, prompts=1), "k": [1], **{kind: {"value": [0.5], "low": None, "high": None} for kind in ("max", "median", "mean")}}
    section = samples_section(stage(curves={**RESULTS, "held_out": [{"temperature": 1.2, **single}], "train": single}))
    assert section.charts == ()
    assert section.tables[0].rows[0][3:] == ["0.50", "0.50", "0.50"]


def test_pre_prompts_stand_in_a_table_of_their_own() -> None:
    (table,) = samples_section(stage(preprompts=PREPROMPTS)).tables
    assert table.rows == [["tailored", "50", "40.0% (28.0-54.0)", "10.0%", "+0.30 (+0.10 to +0.50)"]]


def test_page_and_markdown_show_the_section() -> None:
    card = RunCard(title="t", description="", seed=1, stages=(stage(curves=RESULTS),), scores={}, answers=(), machine={}, code={}, finished="")
    assert '<section id="chosen">' in html_page(card)
    assert "## rs: What the best sample is worth" in markdown_page(card)
