"""What to ask an annotator next.

A task is a dialog with two responses to compare. Somebody's task is an `Assignment`: a lease on one slot of it. The order: what this annotator holds already;
dialogs of this annotator that go on; by the campaign's shares a hidden gold item or repeat; tasks of others with a slot left (overlap); a new prompt of
the queue. Chance comes from the stream (campaign's seed, annotator, how many tasks before), so a queue can be told in advance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from herdling.preference.database import Database
from herdling.types import Completion, Dialog


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A response to be sampled: from which variant of the campaign, how hot, with which seed. For the server only, never for the page."""

    model: str
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One annotator's hold on one task: all that the page may show, and what the server has to sample first."""

    task: int
    dialog: Dialog
    """Ends with the user message that the responses answer."""
    responses: tuple[str, str] | None
    """The texts, left and right as this annotator sees them; None: to be sampled from `draws`, then handed to `Tasks.fill`."""
    draws: tuple[Draw, Draw] | None
    """What to sample; None once there are responses."""
    lease: str
    """Names this hold; every write of the annotator carries it."""
    expires: float
    """When the lease runs out without a heartbeat, in seconds since the epoch."""
    turn: int
    """Which answer of the dialog is judged, from 1."""
    draft: Mapping[str, Any] = field(default_factory=dict)
    """What the page saved last, as the page gave it; after an undo the fields of the judgement that was taken back."""


class Tasks:
    """Dealing and holding tasks. Every method sees and changes what belongs to the given user only."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def next(self, campaign: str, user: int) -> Assignment | None:
        """Return what this annotator should do now, leased; None when nothing waits (write a prompt, or come back later).

        Calling again without an answer gives the same task with its draft, so a reload or a second tab loses nothing.
        """
        raise NotImplementedError

    def write_prompt(self, campaign: str, user: int, text: str, *, key: str) -> Assignment:
        """Begin a dialog with a prompt of the annotator's own; the same `key` again gives the same task.

        Raises:
            Refused: "empty prompt", "own prompts are off", "task held" (another task of this campaign waits for this annotator: judge or skip it first).
        """
        raise NotImplementedError

    def proceed(self, task: int, user: int, text: str, *, key: str) -> Assignment:
        """Go on with a judged dialog: its best response (the edit, where there is one), then `text` as the next user message.

        Raises:
            Refused: "empty prompt", "not judged", "dialog went on", "dialog is full" (max_turns), "round closed", "hidden item", "task held".
        """
        raise NotImplementedError

    def can_proceed(self, task: int, user: int) -> bool:
        """Say whether `proceed` would be accepted. A hidden gold item or repeat says what its like would say only by chance: it cannot go on."""
        raise NotImplementedError

    def fill(self, task: int, user: int, lease: str, completions: tuple[Completion, Completion]) -> Assignment:
        """Store the responses that were sampled for `draws`, in that order, and return the task ready to judge. Twice is once: the first responses stay.

        Raises:
            Refused: "stale lease", "round closed"; "equal responses" or "empty response" (call `redraw` and sample again).
        """
        raise NotImplementedError

    def redraw(self, task: int, user: int, lease: str) -> Assignment:
        """Draw other variants and seeds for a task that has no responses yet. Raises `Refused` ("stale lease", "round closed")."""
        raise NotImplementedError

    def heartbeat(self, task: int, user: int, lease: str) -> float:
        """Hold on to a task; returns when the lease now ends. Raises `Refused` ("stale lease")."""
        raise NotImplementedError

    def save_draft(self, task: int, user: int, lease: str, draft: Mapping[str, Any]) -> float:
        """Save what the page holds (plain JSON), which is a heartbeat too. Raises `Refused` ("stale lease", "draft too long")."""
        raise NotImplementedError

    def skip(self, task: int, user: int, lease: str, reason: str, *, key: str) -> None:
        """Pass a task on to others with a reason; it does not come back to this annotator. Raises `Refused` ("stale lease", "reason missing")."""
        raise NotImplementedError
