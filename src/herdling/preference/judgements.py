"""What was judged: submit once, take back, set aside; an append-only log with revisions.

A judgement is never overwritten: taking it back and giving it again are revisions 2 and 3 of the same (task, annotator). A submission carries a key that the
page made: the same key again returns the first result, so a lost reply can be sent again without fear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from herdling.preference.database import Database
from herdling.preference.rating import SafetyLabel, Side
from herdling.preference.tasks import Assignment
from herdling.types import Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an annotator says of two responses as shown."""

    side: Side
    rating: Rating
    safety: SafetyLabel | None = None
    """Required in a safety campaign, refused in another."""
    edit: str | None = None
    """The chosen response, made better (style llama3 only)."""
    edit_safe: bool | None = None
    """Whether the edit is safe: required with an edit in a safety campaign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The answer to a submission, the same for each repetition of its key."""

    task: int
    revision: int
    round: str
    can_proceed: bool
    """The dialog may go on: offer the box for the next message (`Tasks.proceed`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A line of the annotator's own history."""

    task: int
    prompt: str
    judgement: Judgement
    at: float
    can_undo: bool


class Judgements:
    """Writing judgements. Every method but `set_aside` sees and changes what belongs to the given user only."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def submit(self, task: int, user: int, lease: str, judgement: Judgement, *, key: str, seconds: float | None = None) -> Submitted:
        """Store a judgement. `seconds` is the time that the page was in view; none, or more than the lease lasted: the time since the lease began.

        Raises:
            Refused: nothing is stored. "stale lease", "round closed", "already judged", "no responses yet", "rating outside the scale", "unknown side",
                "safety label missing", "safety label out of place", "edit out of place", "edit changes nothing", "empty response", "key reused".
        """
        raise NotImplementedError

    def undo(self, task: int, user: int, *, key: str) -> Assignment:
        """Take a judgement back (a revision) and hold the task again, its draft filled with what was said.

        Raises:
            Refused: "nothing to undo", "round closed", "dialog went on", "task held" (another task of this campaign is open: judge or skip it first).
        """
        raise NotImplementedError

    def history(self, campaign: str, user: int, *, limit: int = 20) -> list[Done]:
        """Return this annotator's own latest judgements of the open round, newest first. Hidden items look like all others."""
        raise NotImplementedError

    def set_aside(self, task: int, annotator: int, reason: str, *, by: int, key: str) -> None:
        """Set a judgement aside on review (a revision): it stays in the log, is left out of the round and counted, and the slot is free again.

        Raises:
            Refused: "not judged", "round closed", "reason missing".
        """
        raise NotImplementedError
