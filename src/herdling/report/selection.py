"""What the report shows of a selection of dialogs: what went and why, and what the mix was and has become (Llama 3, section 4.2.3 and table 7).

Made from the counts of the stage's ledger (`evals.mix`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from herdling.evals.mix import AFTER, BEFORE, DIFFICULTIES, MENDED, OVERUSED_KEPT, OVERUSED_READ, TALLY
from herdling.report.card import Row, StageCard
from herdling.report.section import StageSection
from herdling.report.tables import Table

MIX_NOTE = (
    "Shares are of all dialogs read, and of all that were kept. Turns and tokens are means over the dialogs that were kept: tokens in all, before the last"
    " answer, and of it."
)
TALLY_NOTE = (
    "Dialogs read → kept. Good: a reward in the top share, full marks by the judge, or both; difficulty is the judge's grade. Not labelled: set aside by a rule"
    " before any model read it, or no model was there to say."
)


def has_selection(stage: StageCard) -> bool:
    """Say whether a stage selected dialogs."""
    return BEFORE in stage.ledger.get("counts", {})


def selection_section(stage: StageCard) -> StageSection:
    """Return the section of a stage that selected dialogs."""
    counts = stage.ledger["counts"]
    tables = [mix_table(counts), tally_table(counts[TALLY]), reasons_table(stage)]
    return StageSection(stage=stage.name, notes=(), tables=tuple(tables), charts=())


def mix_table(counts: Row) -> Table:
    """One row a topic: how many dialogs before and after, their shares, and how long those are that were kept."""
    after = {row["topic"]: row for row in counts[AFTER]}
    rows = []
    for row in counts[BEFORE]:
        kept = after.get(row["topic"], {})
        sizes = [f"{kept[name]:,.1f}" if kept else "-" for name in ("turns", "tokens", "context_tokens", "answer_tokens")]
        rows.append([row["topic"], f"{row['dialogs']:,}", f"{kept.get('dialogs', 0):,}", f"{row['share']:.1%}", f"{kept.get('share', 0.0):.1%}", *sizes])
    columns = ["topic", "read", "kept", "share read", "share kept", "turns", "tokens", "context", "last answer"]
    return Table(title="What the mix has become", columns=columns, rows=rows, note=MIX_NOTE)


def reasons_table(stage: StageCard) -> Table:
    """One row for each reason that dialogs were set aside for, and what the rules counted beside."""
    num_read, num_kept, counts = stage.ledger["rows_in"], stage.ledger["kept"], stage.ledger["counts"]
    found = [(reason, entry["count"], num_read) for reason, entry in stage.dropped.items()]
    found += [("kept", num_kept, num_read)]
    found += [(name, counts[name], total) for name, total in ((MENDED, num_read), (OVERUSED_READ, num_read), (OVERUSED_KEPT, num_kept)) if name in counts]
    rows = [[name, f"{amount:,}", f"{total:,}", f"{amount / total:.1%}"] for name, amount, total in found]
    return Table(title="Why dialogs went", columns=["", "dialogs", "of", "share"], rows=rows)


def tally_table(tally: list[Mapping[str, Any]]) -> Table:
    """Topic and quality as rows, difficulty as columns, each cell before and after."""
    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for row in tally:
        found.setdefault((row["topic"], row["quality"]), {})[row["difficulty"]] = (row["before"], row["after"])
    levels = [level for level in DIFFICULTIES if any(level in cells for cells in found.values())]
    rows = []
    for (topic, quality), cells in found.items():
        whole = tuple(map(sum, zip(*cells.values(), strict=True)))
        rows.append([f"{topic}, {quality}", *(_moved(cells.get(level)) for level in levels), _moved((whole[0], whole[1]))])
    return Table(title="Topic x quality x difficulty", columns=["topic, called good by", *levels, "all"], rows=rows, note=TALLY_NOTE)


def _moved(cell: tuple[int, int] | None) -> str:
    return "-" if cell is None else f"{cell[0]:,} → {cell[1]:,}"
