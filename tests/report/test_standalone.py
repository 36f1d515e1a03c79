"""A chart that stands alone is well-formed, coloured and named."""

from __future__ import annotations

from xml.etree import ElementTree

from herdling.report.chart import line_chart
from herdling.report.curves import Curve, CurveChart
from herdling.report.standalone import standalone


def test_lines_are_named_in_their_colours_and_names_are_escaped() -> None:
    curves = [Curve(label="a < b", points=[(0, 1), (2, 3)]), Curve(label="c", points=[(0, 2), (2, 1)])]
    drawn = standalone(line_chart(CurveChart(title="T", x_unit="x", y_unit="y", curves=curves)), ["a < b", "c"])
    root = ElementTree.fromstring(drawn)
    names = [text for text in root.iter("{http://www.w3.org/2000/svg}text") if (text.get("class") or "").startswith("name")]
    assert [(text.text, text.get("class")) for text in names] == [("a < b", "name colour-0"), ("c", "name colour-1")]
    assert ".colour-1{--c:" in drawn
