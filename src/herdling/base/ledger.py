"""The ledger: what a stage did with every row that it read, by named reason.

Nothing disappears in silence. A stage counts rows in, rows kept, and every row dropped with the reason and a few examples; past a threshold it fails
instead of training on what is left. Written as `ledger.json` beside the result.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from herdling.base.artifact import write_json_atomic
from herdling.base.errors import DataError

MAX_EXAMPLES = 5


class Ledger:
    """Counts of one stage. `counts` holds further named totals (tokens supervised, rows truncated, ...)."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.rows_in = 0
        self.kept = 0
        self.dropped: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        self.counts: dict[str, Any] = {}

    def read(self, num_rows: int = 1) -> None:
        """Count rows that were read."""
        self.rows_in += num_rows

    def keep(self, num_rows: int = 1) -> None:
        """Count rows that go on."""
        self.kept += num_rows

    def drop(self, reason: str, example: str = "") -> None:
        """Count one row set aside for this reason; the first few examples are kept, each as `where: what`."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if example and len(examples) < MAX_EXAMPLES:
            examples.append(example[:300])

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a named total."""
        self.counts[name] = self.counts.get(name, 0) + amount

    @property
    def num_dropped(self) -> int:
        """Rows set aside, over all reasons."""
        return sum(self.dropped.values())

    def add(self, other: Ledger) -> None:
        """Add the rows, reasons and counts of another ledger: one source's to the stage's."""
        self.rows_in += other.rows_in
        self.kept += other.kept
        for reason, count in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
            self.examples[reason] = (self.examples.get(reason, []) + other.examples.get(reason, []))[:MAX_EXAMPLES]
        for name, amount in other.counts.items():
            self.count(name, amount)

    def check(self, max_dropped_share: float, *, harmless: Collection[str] = ()) -> None:
        """Raise `DataError` when nothing was kept, or when a larger share than this was set aside for reasons that are not `harmless` (duplicates, say)."""
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(self.dropped.items(), key=lambda item: -item[1]))
        if self.kept == 0:
            raise DataError(f"{self.stage}: no row is left of {self.rows_in:,} read" + (f" ({reasons}). For example: {self._examples()}" if reasons else ""))
        harmful = self.num_dropped - sum(self.dropped.get(reason, 0) for reason in harmless)
        share = harmful / max(1, self.rows_in)
        if share > max_dropped_share:
            raise DataError(
                f"{self.stage}: {harmful:,} of {self.rows_in:,} rows ({share:.1%}) would be set aside, accepted is {max_dropped_share:.1%}."
                f" Reasons: {reasons}. For example: {self._examples(harmless)}. Mend the data, or raise max_dropped_share on purpose"
            )

    def _examples(self, without: Collection[str] = ()) -> str:
        return "; ".join(listed[0] for reason, listed in self.examples.items() if listed and reason not in without)

    def to_dict(self) -> dict[str, Any]:
        """Return the ledger as plain data."""
        dropped = {reason: {"count": count, "examples": self.examples.get(reason, [])} for reason, count in sorted(self.dropped.items())}
        return {"stage": self.stage, "rows_in": self.rows_in, "kept": self.kept, "dropped": dropped, "counts": self.counts}

    def write(self, path: Path) -> None:
        """Write `ledger.json`."""
        write_json_atomic(path, self.to_dict())
