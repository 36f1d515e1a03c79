"""A chart as a file of its own: with colours, and the names of its lines, which a page gives by its style and legend."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

COLOURS = ("#c0503f", "#b5761a", "#2b7a9b", "#5b7f3a", "#7a4f9b", "#55606a")
STYLE = (
    "svg{background:#fff;font:11px sans-serif}.grid{stroke:#e3dfd5}.line{fill:none;stroke:var(--c);stroke-width:1.8}.band{fill:var(--c);fill-opacity:.16}"
    ".whisker{stroke:var(--c);stroke-width:2;opacity:.65}.dot{fill:var(--c)}.frontier{fill:none;stroke:var(--c)}.unit,.label{fill:#5d676e}.name{fill:var(--c);font-weight:bold}"
)


def standalone(svg: str, labels: Sequence[str], *, right: float = 385, top: float = 19) -> str:
    """Return a chart of `chart` that stands alone; the labels of its lines end at `right`, one below the other from `top` on."""
    colours = "".join(f".colour-{number}{{--c:{colour}}}" for number, colour in enumerate(COLOURS))
    names = "".join(
        f'<text class="name colour-{number % len(COLOURS)}" x="{right:g}" y="{top + 13 * number:g}" text-anchor="end">{escape(label)}</text>'
        for number, label in enumerate(labels)
    )
    drawn = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace("</title>", f"</title><style>{STYLE}{colours}</style>", 1)
    return drawn.replace("</svg>", f"{names}</svg>")
