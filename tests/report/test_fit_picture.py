"""Pictures of fits are well-formed, lie within their frame, and show the points, the laws and the forecast."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from herdling.plan.data_mix import fit_mixes, forecast_mixes
from herdling.plan.isoflop import fit_isoflop
from herdling.plan.parametric import fit_parametric
from herdling.report.fit_picture import isoflop_panel, loss_panel, mixes_picture, sweep_picture, tokens_panel
from herdling.report.panels import Marks, Panel, picture
from tests.plan.made_mixes import made_mixes
from tests.plan.made_sweep import TRUTH, made_sweep

SVG = "{http://www.w3.org/2000/svg}"


def elements(drawn: str, tag: str, style: str = "") -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(drawn).iter(f"{SVG}{tag}") if style in (element.get("class") or "")]


def test_a_sweep_has_every_run_twice_a_parabola_a_budget_and_forecasts_of_tokens_and_of_loss_by_law_and_by_curve() -> None:
    rows = made_sweep(noise=1e-3)
    line = fit_isoflop(rows)
    drawn = sweep_picture(rows, line, fit_parametric(rows), [1e24])
    assert len(elements(drawn, "g")) == 3
    assert len(elements(drawn, "circle", "dot")) == 2 * len(rows.loss) + len(line.valleys)
    assert len(elements(drawn, "circle", "ring")) == len(line.valleys) + 3
    assert len(elements(drawn, "polygon", "band")) == 2
    texts = {element.text for element in elements(drawn, "text")}
    assert {"Loss at each budget of FLOPs", "1e18", "forecast", f"parametric law: C^{1 - TRUTH.parameter_exponent:.3f}"} <= texts


def test_everything_lies_within_its_panel() -> None:
    rows = made_sweep(noise=1e-3)
    drawn = picture([[isoflop_panel(rows, fit_isoflop(rows))]], "One", height=300)
    for element in elements(drawn, "circle"):
        assert 0 < float(element.attrib["cx"]) < 400
        assert 0 < float(element.attrib["cy"]) < 300


def test_optimum_of_a_parabola_is_drawn_where_its_dots_are_lowest() -> None:
    panel = isoflop_panel(rows := made_sweep(reach=0.5), fit_isoflop(rows))
    first = panel.marks[0]
    best = min(first.dots, key=lambda dot: dot[1])
    assert panel.marks[-1].dots[0][0] == pytest.approx(best[0], rel=0.2)


def test_a_measured_larger_run_and_the_forecast_stand_together() -> None:
    rows = made_sweep()
    panel = loss_panel(rows, fit_parametric(rows), [1e22], measured={"trained": (1e22, 2.5)})
    forecast = next(marks for marks in panel.marks if marks.label == "forecast")
    assert forecast.dots[0][1] == pytest.approx(TRUTH.allocate(1e22).loss, rel=1e-3)
    assert panel.marks[-1].label == "trained"


def test_a_forecast_is_drawn_with_the_interval_that_is_printed_and_without_the_narrower_band() -> None:
    rows = made_sweep(noise=1e-3)
    fit = fit_parametric(rows)
    panel = loss_panel(rows, fit, [1e22], forecasts={1e22: (2.4, 2.2, 2.9)}, measured={"trained": (1e22, 2.5)})
    assert not any(marks.band for marks in panel.marks)
    (drawn,) = [marks for marks in panel.marks if marks.whiskers]
    assert (drawn.dots, drawn.whiskers) == ([(1e22, 2.4)], [(1e22, 2.2, 2.9)])
    assert any(marks.band for marks in loss_panel(rows, fit, [1e22]).marks)


def test_forecasts_of_mixes_stand_side_by_side_the_best_at_the_compute_that_was_asked_for() -> None:
    fit = fit_mixes(made_mixes(noise=1e-3))
    found = forecast_mixes(fit, 1e20, 20.0, num_worlds=20)
    drawn = mixes_picture(fit, found, 1e20, 20.0)
    places = [float(ring.attrib["cx"]) for ring in elements(drawn, "circle", "ring")]
    best, second, third = places[:3]
    assert third + 3 < second < best - 3
    curve_end = float(elements(drawn, "polyline", "line colour-0")[0].attrib["points"].split()[-1].split(",")[0])
    assert best == pytest.approx(curve_end, abs=0.2)


def label_boxes(drawn: str) -> list[tuple[float, float, str]]:
    return [(float(label.attrib["x"]), float(label.attrib["y"]), str(label.text)) for label in elements(drawn, "text", "name")]


def end_lines(*ends: tuple[float, float]) -> Panel:
    marks = [Marks(curve=[(1.0, 1.0), (x, y)], label=f"line {number}") for number, (x, y) in enumerate(ends)]
    return Panel(title="t", x_unit="x", y_unit="y", marks=[*marks, Marks(dots=[(1.0, 0.0), (10.0, 10.0)])], names="ends")


def test_labels_at_ends_that_are_close_are_spread_in_the_order_of_their_lines() -> None:
    labels = label_boxes(picture([[end_lines((10, 5.0), (9.9, 5.1), (10, 5.05), (10, 9.0))]], "t"))
    by_name = {text: y for _, y, text in labels}
    order = [by_name[f"line {number}"] for number in (3, 1, 2, 0)]
    assert order == sorted(order)
    assert all(below - above >= 12.9 for above, below in pairwise(order))
    assert (by_name["line 0"] + by_name["line 1"]) / 2 == pytest.approx(by_name["line 2"], abs=0.2)


def test_labels_at_ends_that_are_apart_stay_at_their_lines() -> None:
    apart = label_boxes(picture([[end_lines((2, 5.0), (10, 5.0))]], "t"))
    assert len({y for _, y, _ in apart}) == 1


def test_labels_at_ends_stay_within_the_axes() -> None:
    labels = label_boxes(picture([[end_lines(*((10, 0.01 * number) for number in range(6)))]], "t", height=260))
    assert len(labels) == 6
    assert all(40 < y < 226 for _, y, _ in labels)


def test_two_budgets_have_a_line_without_a_band() -> None:
    line = fit_isoflop(made_sweep(num_budgets=2))
    assert not any(marks.band for marks in tokens_panel(line, None, [1e24]).marks)
