"""A chart as a file of its own: with colours for a light and a dark ground, and the names of its lines, which a page gives by its style and legend."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

COLOURS = ("#c0503f", "#b5761a", "#2b7a9b", "#5b7f3a", "#7a4f9b", "#55606a")
DARK_COLOURS = ("#f08c7c", "#e8ad4f", "#63b7d9", "#9cc47a", "#c794d8", "#a8b4bd")
STYLE = (
    "svg{--ground:#fff;--ink:#1d2327;--soft:#5d676e;--rule:#e3dfd5;--early:#4a6fb5;--late:#c0503f;background:var(--ground);font:11px sans-serif}"
    ".grid{stroke:var(--rule)}.line{fill:none;stroke:var(--c);stroke-width:1.8}.band{fill:var(--c);fill-opacity:.16}.whisker{stroke:var(--c);stroke-width:2;opacity:.65}"
    ".dot{fill:var(--c)}.ring{fill:var(--ground);stroke:var(--c);stroke-width:1.6}.frontier{fill:none;stroke:var(--c)}.unit,.label{fill:var(--soft)}"
    ".title{fill:var(--ink);font-weight:bold}.name{fill:var(--c);font-weight:bold}"
)
DARK = "svg{--ground:#1d2124;--ink:#e8e6e1;--soft:#a0a8ad;--rule:#343a3e;--early:#7fb0f0;--late:#f08c7c}"


def standalone(svg: str, labels: Sequence[str], *, right: float = 385, top: float = 19) -> str:
    """Return a chart of `chart` that stands alone; the labels of its lines end at `right`, one below the other from `top` on."""
    names = "".join(
        f'<text class="name colour-{number % len(COLOURS)}" x="{right:g}" y="{top + 13 * number:g}" text-anchor="end">{escape(label)}</text>'
        for number, label in enumerate(labels)
    )
    style = f"{STYLE}{_palette(COLOURS)}@media(prefers-color-scheme:dark){{{DARK}{_palette(DARK_COLOURS)}}}"
    drawn = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace("</title>", f"</title><style>{style}</style>", 1)
    return drawn.replace("</svg>", f"{names}</svg>")


def _palette(colours: Sequence[str]) -> str:
    return "".join(f".colour-{number}{{--c:{colour}}}" for number, colour in enumerate(colours))
