"""What the report shows of one stage that measured something: notes, tables and pictures, as plain values for the page and for Markdown."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, replace

from markupsafe import Markup

from herdling.report.card import StageCard
from herdling.report.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionChart:
    """A picture with what to read from it; `labels` name its colours in order."""

    title: str
    picture: Markup
    caption: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSection:
    """All that the report shows of one stage; the first table is the main one. `warnings` stand before everything else."""

    stage: str
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    charts: tuple[SectionChart, ...]
    warnings: tuple[str, ...] = ()

    @property
    def named_tables(self) -> list[Table]:
        """The tables with the name of the stage in their titles, warnings and notes below the first, for a page without sections."""
        first = replace(self.tables[0], note="\n\n".join(part for part in (self.tables[0].note, *self.warnings, *self.notes) if part))
        return [replace(table, title=f"{self.stage}: {table.title}") for table in (first, *self.tables[1:])]


def drawn_chart(stage: StageCard, name: str, title: str, caption: str) -> SectionChart:
    """Show a picture that the stage drew. As an image: its style is its own and reaches nothing of the page."""
    data = b64encode(stage.pictures[name].encode()).decode()
    picture = Markup('<img alt="{}" src="data:image/svg+xml;base64,{}" style="width:100%;max-width:36rem">').format(f"{stage.name}: {title}", data)
    return SectionChart(title=title, picture=picture, caption=caption)
