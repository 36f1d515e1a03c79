"""Close a round: freeze its judgements as an artifact of kind `comparisons`, immutable and content-hashed (Llama 2, section 3.2.1: weekly batches).

Closing first stops the round in the database (later judgements are refused), then writes the folder beside and renames it. A kill between the two leaves a
closed round without its folder: closing again writes the same bytes. Not in the data, but counted: gold items, repeats, judgements set aside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from herdling.base.artifact import Artifact
from herdling.preference.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A batch of a campaign. `fingerprint` is that of its artifact, once it is frozen."""

    name: str
    campaign: str
    number: int
    opened: float
    closed: float | None
    fingerprint: str | None
    num_judgements: int


class Rounds:
    """The rounds of one database. Each campaign has exactly one open round."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def rounds(self, campaign: str) -> list[Round]:
        """Return the rounds of a campaign, the first first."""
        raise NotImplementedError

    def close(self, campaign: str, folder: Path, *, number: int | None = None) -> Artifact:
        """Close the open round (or finish or repeat the closing of an earlier one, by its number) and return `folder / ROUND` as an artifact.

        Closing twice is once: a frozen round is verified and returned. The next round is open as soon as this one stops.

        Raises:
            DataError: nothing usable was judged in this round; it stays open.
            LineageError: `folder / ROUND` holds something else than this round froze.
        """
        raise NotImplementedError
