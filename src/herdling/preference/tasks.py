"""What to ask an annotator next, and all that an annotator does with a task before judging it.

A task is a dialog with two responses to compare. The order: what this annotator holds already; dialogs of this annotator that go on; by the campaign's
shares a hidden gold item or repeat; tasks with a slot left (overlap); a new prompt of the queue. Chance comes from the stream (campaign's seed, annotator, how
many tasks before), so that a queue can be told in advance. A dialog goes on for the one who chose how: others would see in it what was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from herdling.base.comparison_records import completion_to_row
from herdling.base.errors import Refused
from herdling.preference.campaign import CampaignConfig
from herdling.preference.campaigns import config_of
from herdling.preference.database import Database, log
from herdling.preference.dealing import deal, draws_of, new_task, next_dialog
from herdling.preference.leases import Assignment, Draw, check_round, extend, free_expired, held, hold, open_round, task_row, view
from herdling.preference.schema import assignments, tasks
from herdling.types import Completion

__all__ = ["Assignment", "Draw", "Tasks"]

T = TypeVar("T")
MAX_HELD = 3
LONGEST_PROMPT, LONGEST_DRAFT, LONGEST_REASON = 20_000, 100_000, 1_000


class Tasks:
    """Dealing and holding tasks. Every method sees and changes what belongs to the given user only."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def next(self, campaign: str, user: int) -> Assignment | None:
        """Return what this annotator should do now, leased; None when nothing waits (write a prompt, or come back later).

        Calling again without an answer gives the same task with its draft, so a reload or a second tab loses nothing.
        """
        now = self._clock()

        def work(tx: sa.Connection) -> Assignment | None:
            config = config_of(tx, campaign, lock="deal")
            free_expired(tx, now)
            task = deal(tx, config, user, now)
            return view(tx, task, user) if task is not None else None

        return self._database.write(work)

    def look(self, campaign: str, task: int, user: int, lease: str) -> Assignment:
        """Return a task that this lease holds, and change nothing. Raises `Refused` ("unknown task", "stale lease", "already judged", "round closed")."""
        with self._database.read() as tx:
            row = task_row(tx, task)
            if row.campaign != campaign:
                raise Refused("unknown task", f"there is no task {task} in campaign {campaign!r}")
            held(tx, row, user, lease, self._clock())
            return view(tx, task, user)

    def write_prompt(self, campaign: str, user: int, text: str, *, key: str) -> Assignment:
        """Begin a dialog with a prompt of the annotator's own; the same `key` again gives the same task.

        Raises:
            Refused: "empty prompt", "prompt too long", "own prompts are off", "too many held" (3 tasks wait for this annotator: judge or skip them first).
        """
        _check_text(text)

        def work(tx: sa.Connection) -> int:
            config = config_of(tx, campaign, lock="deal")
            if not config.own_prompts:
                raise Refused("own prompts are off", "in this campaign all prompts come from the queue")
            dialog = {"id": f"{campaign}-{user}-{key}", "messages": [{"role": "user", "content": text}]}
            return self._begin(tx, config, user, dialog=dialog, source="own", round_id=open_round(tx, campaign))

        return self._dealt(user, key, ["write_prompt", campaign, text], work)

    def proceed(self, task: int, user: int, text: str, *, key: str) -> Assignment:
        """Go on with a judged dialog: its best response (the edit, where there is one), then `text` as the next user message.

        Raises:
            Refused: "empty prompt", "prompt too long", "not judged", "dialog went on", "dialog is full" (max_turns), "round closed", "too many held".
        """
        _check_text(text)

        def work(tx: sa.Connection) -> int:
            row = task_row(tx, task)
            config = config_of(tx, row.campaign, lock="deal")
            round_id = check_round(tx, row)
            dialog = next_dialog(tx, row, user, config)
            dialog["messages"].append({"role": "user", "content": text})
            return self._begin(tx, config, user, dialog=dialog, source="continued", round_id=round_id, parent_id=task, owner=user)

        return self._dealt(user, key, ["proceed", task, text], work)

    def fill(self, task: int, user: int, lease: str, completions: tuple[Completion, Completion]) -> Assignment:
        """Store the responses that were sampled for `draws`, in that order, and return the task ready to judge. Twice is once: the first responses stay.

        Raises:
            Refused: "stale lease", "round closed"; "equal responses" or "empty response" (call `redraw` and sample again).
        """
        now = self._clock()
        texts = [completion.message.content.strip() for completion in completions]
        if not all(texts):
            raise Refused("empty response", "a model said nothing; draw and sample again")
        if texts[0] == texts[1]:
            raise Refused("equal responses", "both models said the same, so there is nothing to prefer; draw and sample again")

        def work(tx: sa.Connection, row: sa.Row[Any], config: CampaignConfig, found: sa.Row[Any]) -> Assignment:
            if row.responses is None:
                tx.execute(sa.update(tasks).where(tasks.c.id == task).values(responses=[completion_to_row(each) for each in completions]))
            # Time on task begins when there is something to read.
            extend(tx, found, config, now, began=now if row.responses is None else found.began)
            return view(tx, task, user)

        return self._holding(task, user, lease, now, work)

    def redraw(self, task: int, user: int, lease: str) -> Assignment:
        """Draw other variants and seeds for a task that has no responses yet. Raises `Refused` ("stale lease", "round closed")."""

        def work(tx: sa.Connection, row: sa.Row[Any], config: CampaignConfig, found: sa.Row[Any]) -> Assignment:
            if row.responses is None:
                draws = draws_of(config, task, row.attempt + 1)
                tx.execute(sa.update(tasks).where(tasks.c.id == task).values(attempt=row.attempt + 1, draws=draws))
            return view(tx, task, user)

        return self._holding(task, user, lease, self._clock(), work)

    def heartbeat(self, task: int, user: int, lease: str) -> float:
        """Hold on to a task; returns when the lease now ends. Raises `Refused` ("stale lease", "round closed", "already judged")."""
        now = self._clock()
        return self._holding(task, user, lease, now, lambda tx, row, config, found: extend(tx, found, config, now))

    def save_draft(self, task: int, user: int, lease: str, draft: Mapping[str, Any]) -> float:
        """Save what the page holds (plain JSON), which is a heartbeat too. Raises `Refused` as `heartbeat`, and "draft too long"."""
        now, plain = self._clock(), dict(draft)
        if len(json.dumps(plain)) > LONGEST_DRAFT:
            raise Refused("draft too long", f"found more than {LONGEST_DRAFT:,} characters")
        return self._holding(task, user, lease, now, lambda tx, row, config, found: extend(tx, found, config, now, draft=plain))

    def skip(self, task: int, user: int, lease: str, reason: str, *, key: str) -> None:
        """Pass a task on to others with a reason; it does not come back to this annotator. Raises `Refused` ("stale lease", "reason missing")."""
        now, reason = self._clock(), reason.strip()[:LONGEST_REASON]
        if not reason:
            raise Refused("reason missing", "say in a few words why this task is skipped")

        def work(tx: sa.Connection) -> None:
            row = task_row(tx, task)
            config_of(tx, row.campaign, lock="share")
            held(tx, row, user, lease, now)
            mine = sa.and_(assignments.c.task_id == task, assignments.c.user_id == user)
            tx.execute(sa.update(assignments).where(mine).values(state="skipped", slot=None))
            log(tx, now, "skipped", campaign=row.campaign, user=user, task=task, reason=reason)

        self._database.once(user, key, ["skip", task, reason], now, work)

    def _holding(self, task: int, user: int, lease: str, now: float, work: Callable[[sa.Connection, sa.Row[Any], CampaignConfig, sa.Row[Any]], T]) -> T:
        """Run `work` for a task that this lease holds."""

        def checked(tx: sa.Connection) -> T:
            row = task_row(tx, task)
            config = config_of(tx, row.campaign, lock="share")
            found = held(tx, row, user, lease, now)
            return work(tx, task_row(tx, task), config, found)

        return self._database.write(checked)

    def _begin(self, tx: sa.Connection, config: CampaignConfig, user: int, **values: Any) -> int:
        now = self._clock()
        free_expired(tx, now)
        mine = sa.and_(assignments.c.campaign == config.name, assignments.c.user_id == user, assignments.c.state == "held")
        if tx.execute(sa.select(sa.func.count()).select_from(assignments).where(mine)).scalar_one() >= MAX_HELD:
            raise Refused("too many held", f"{MAX_HELD} tasks wait for you; judge or skip one first")
        task = new_task(tx, config, now, kind="prompt", **values)
        hold(tx, task, user, config, now, slot=0)
        return task

    def _dealt(self, user: int, key: str, request: list[Any], work: Callable[[sa.Connection], int]) -> Assignment:
        task = self._database.once(user, key, request, self._clock(), work)
        with self._database.read() as tx:
            return view(tx, task, user)


def _check_text(text: str) -> None:
    if not text.strip():
        raise Refused("empty prompt", "write what the models should answer")
    if len(text) > LONGEST_PROMPT:
        raise Refused("prompt too long", f"found {len(text):,} characters, accepted are {LONGEST_PROMPT:,}")
