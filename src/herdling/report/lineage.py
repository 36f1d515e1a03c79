"""The lineage of a run: which artifact was read by which, drawn as rows with arcs beside them (it reads well at any width, for any graph)."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from herdling.report.card import StageCard

ROW, GUTTER = 26.0, 96.0
SHORT = 10


def edges(stages: Sequence[StageCard]) -> list[tuple[int, int]]:
    """Return (row of the artifact read, row of its reader)."""
    row = {stage.name: number for number, stage in enumerate(stages)}
    return [(row[parent], number) for number, stage in enumerate(stages) for parent in dict.fromkeys(stage.parents.values()) if parent in row]


def lineage_chart(stages: Sequence[StageCard]) -> str:
    """Draw one row for each artifact, with an arc from each that it was made from."""
    width, height = 400.0, ROW * len(stages)
    svg = ET.Element("svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": "Lineage"})
    longest = max((reader - read for read, reader in edges(stages)), default=1)
    for read, reader in edges(stages):
        bulge = GUTTER - 8 - (GUTTER - 22) * ((reader - read) / longest) ** 0.7
        start, end = (ROW * (place + 0.5) for place in (read, reader))
        ET.SubElement(svg, "path", {"class": "arc", "d": f"M {GUTTER} {start} C {bulge:.1f} {start} {bulge:.1f} {end} {GUTTER} {end}"})
    for number, stage in enumerate(stages):
        y = ROW * (number + 0.5)
        ET.SubElement(svg, "circle", {"class": "dot colour-0", "cx": f"{GUTTER}", "cy": f"{y}", "r": "4.5"})
        for x, style, text in ((GUTTER + 12, "node", stage.name), (GUTTER + 142, "label", stage.output), (width, "fingerprint", stage.fingerprint[:SHORT])):
            anchor = "end" if style == "fingerprint" else "start"
            ET.SubElement(svg, "text", {"class": style, "x": f"{x:g}", "y": f"{y + 4:g}", "text-anchor": anchor}).text = text
    return ET.tostring(svg, encoding="unicode")


def lineage_lines(stages: Sequence[StageCard]) -> list[str]:
    """Return the lineage as text, one line an artifact."""
    name, output = (max((len(text) for text in texts), default=0) for texts in ([s.name for s in stages], [s.output for s in stages]))
    return [
        f"{stage.name:{name}}  {stage.output:{output}}  {stage.fingerprint[:SHORT]}"
        + (f"  from {', '.join(dict.fromkeys(stage.parents.values()))}" if stage.parents else "")
        for stage in stages
    ]
