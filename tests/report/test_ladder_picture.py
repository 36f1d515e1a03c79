"""The picture of a ladder has both stages of every task, with what was forecast and what was measured."""

from __future__ import annotations

from herdling.plan.downstream import fit_ladder
from herdling.plan.ladder import split_ladder
from herdling.report.ladder_picture import ladder_picture
from tests.plan.made_ladder import TASKS, made_ladder
from tests.report.test_fit_picture import elements


def test_two_panels_a_task_and_a_ring_for_every_forecast() -> None:
    fitted, larger = split_ladder(made_ladder(noise=3e-3, ratios=(20, 50, 100)), 1e9)
    drawn = ladder_picture(fit_ladder(fitted), fitted, larger)
    assert len(elements(drawn, "g")) == 2 * len(TASKS)
    assert len(elements(drawn, "circle", "ring")) == 2 * len(TASKS) * len(larger)
    assert len(elements(drawn, "line", "whisker")) == len(TASKS) * len(larger)
    assert {*TASKS, "forecast", "measured"} <= {element.text for element in elements(drawn, "text")}
