"""What was judged: submit once, take back; an append-only log with revisions.

A judgement is never overwritten: taking it back and giving it again are revisions 2 and 3 of the same (task, annotator). A submission carries a key that the
page made: the same key again returns the first result, so a lost reply can be sent again without fear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from herdling.base.comparison_records import fault
from herdling.base.errors import Refused
from herdling.preference.campaign import CampaignConfig
from herdling.preference.campaigns import config_of
from herdling.preference.database import Database, log
from herdling.preference.dealing import num_turns
from herdling.preference.judged import Judgement, comparison_of, current_judgement, latest_revisions
from herdling.preference.leases import Assignment, check_round, free_expired, held, left_response, open_round, open_round_row, take, task_row, view
from herdling.preference.rating import LEVELS, SAFETY_LABELS
from herdling.preference.rounds import round_name
from herdling.preference.schema import assignments, judgements, tasks
from herdling.preference.tasks import LONGEST_PROMPT

__all__ = ["Done", "Judgement", "Judgements", "Submitted"]


_TASK: sa.BindParameter[Any] = sa.bindparam("task")
_JUDGED = sa.update(assignments).where(assignments.c.task_id == _TASK, assignments.c.user_id == sa.bindparam("user")).values(state="judged", draft={})
_NUM_JUDGED = sa.select(sa.func.count()).where(assignments.c.task_id == _TASK, assignments.c.state == "judged")
_COMPLETE = sa.update(tasks).where(tasks.c.id == _TASK).values(complete=sa.bindparam("enough"))


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
    """Writing judgements. Every method sees and changes what belongs to the given user only."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def submit(self, task: int, user: int, lease: str, judgement: Judgement, *, key: str, seconds: float | None = None) -> Submitted:
        """Store a judgement. `seconds` is the time that the page was in view; none, or more than the lease lasted: the time since the lease began.

        Raises:
            Refused: nothing is stored. "stale lease", "round closed", "already judged", "no responses yet", "rating outside the scale", "unknown side",
                "safety label missing", "safety label out of place", "edit out of place", "edit changes nothing", "empty response", "key reused", ...:
                what `base.comparison_records.fault` names as well.
        """
        now, said = self._clock(), asdict(judgement)

        def work(tx: sa.Connection) -> dict[str, Any]:
            row = task_row(tx, task)
            config = config_of(tx, row.campaign, lock="share")
            hold = held(tx, row, user, lease, now)
            _check(row, judgement, config, left_response(hold.side_seed))
            current = open_round_row(tx, row.campaign)
            tx.execute(_JUDGED, {"task": task, "user": user})
            elapsed = now - hold.began
            taken = elapsed if seconds is None or not 0 <= seconds <= elapsed else seconds
            before = current_judgement(tx, task, user)
            what = {"side_seed": hold.side_seed, "guidelines_version": config.guidelines_version, "judgement": said, "seconds": taken}
            revision = append_revision(tx, row, user, "judged", now, before, round_id=current.id, **what)
            update_complete(tx, row, config)
            # As `Tasks.proceed` would decide: what was judged just now, nobody went on from.
            can_proceed = num_turns(row.dialog) < config.max_turns
            return {"task": task, "revision": revision, "round": round_name(row.campaign, current.number), "can_proceed": can_proceed}

        return Submitted(**self._database.once(user, key, ["submit", task, said], now, work))

    def undo(self, task: int, user: int, *, key: str) -> Assignment:
        """Take a judgement back (a revision) and hold the task again, its draft filled with what was said.

        Raises:
            Refused: "nothing to undo", "round closed", "dialog went on", "place taken" (others were asked while this was set aside on review).
        """
        now = self._clock()

        def work(tx: sa.Connection) -> int:
            row = task_row(tx, task)
            config = config_of(tx, row.campaign, lock="deal")
            judged = _judged(tx, row, user, "nothing to undo")
            if tx.execute(sa.select(tasks.c.id).where(tasks.c.parent_id == task, tasks.c.owner == user)).first():
                raise Refused("dialog went on", f"task {task} was continued with what was chosen; it stands")
            kept = {"round_id": judged.round_id, "side_seed": judged.side_seed, "guidelines_version": config.guidelines_version}
            append_revision(tx, row, user, "undone", now, judged, **kept)
            mine = sa.and_(assignments.c.task_id == task, assignments.c.user_id == user)
            tx.execute(sa.update(assignments).where(mine).values(state="expired", slot=None, draft=judged.judgement))
            tx.execute(sa.update(tasks).where(tasks.c.id == task).values(complete=row.kind == "gold"))
            free_expired(tx, now)
            if not take(tx, row, user, config, now):  # its own slot, which nobody else can be dealt meanwhile, unless a review had freed it before
                raise Refused("place taken", f"task {task} was asked of somebody else meanwhile; your judgement stands")
            return task

        self._database.once(user, key, ["undo", task], now, work)
        with self._database.read() as tx:
            return view(tx, task, user)

    def count(self, campaign: str, user: int) -> int:
        """Return how many judgements of this annotator stand in the open round."""
        with self._database.read() as tx:
            latest = latest_revisions(judgements.c.round_id == open_round(tx, campaign), judgements.c.user_id == user)
            return tx.execute(sa.select(sa.func.count()).select_from(latest).where(latest.c.kind == "judged")).scalar_one()

    def history(self, campaign: str, user: int, *, limit: int = 20) -> list[Done]:
        """Return this annotator's own latest judgements of the open round, newest first. Hidden items look like all others."""
        with self._database.read() as tx:
            latest = latest_revisions(judgements.c.round_id == open_round(tx, campaign), judgements.c.user_id == user)
            went_on = sa.select(tasks.c.parent_id).where(tasks.c.owner == user, tasks.c.parent_id.is_not(None))
            columns = (latest.c.task_id, latest.c.judgement, latest.c.at, tasks.c.dialog, tasks.c.id.in_(went_on).label("went_on"))
            asked = sa.select(*columns).join(tasks, tasks.c.id == latest.c.task_id).where(latest.c.kind == "judged").order_by(latest.c.id.desc()).limit(limit)
            return [
                Done(
                    task=row.task_id,
                    prompt=row.dialog["messages"][-1]["content"],
                    judgement=Judgement(**row.judgement),
                    at=row.at,
                    can_undo=not row.went_on,
                )
                for row in tx.execute(asked)
            ]


def _judged(tx: sa.Connection, row: sa.Row[Any], user: int, reason: str) -> sa.Row[Any]:
    """Return the judgement that stands, of a round that is open. Raises `Refused` with this reason, or "round closed"."""
    judged = current_judgement(tx, row.id, user)
    if judged is None or judged.kind != "judged":
        raise Refused(reason, f"task {row.id} has no judgement that stands")
    if judged.round_id != check_round(tx, row):
        raise Refused("round closed", f"the judgement of task {row.id} belongs to a round that is closed")
    return judged


def append_revision(
    tx: sa.Connection,
    row: sa.Row[Any],
    user: int,
    kind: str,
    now: float,
    before: sa.Row[Any] | None,
    *,
    round_id: int,
    side_seed: int,
    guidelines_version: int,
    judgement: dict[str, Any] | None = None,
    seconds: float | None = None,
    reason: str | None = None,
    by: int | None = None,
    event: str = "",
) -> int:
    """Append the revision after `before` to the log and return its number. A race for the number is lost at the unique constraint, and tried again.

    `by` is the annotator unless somebody else is named; `event` names the line in the log of events, if it is another than `kind`.
    """
    revision = 1 if before is None else int(before.revision) + 1
    sides = {"left_response": left_response(side_seed), "side_seed": side_seed, "guidelines_version": guidelines_version}
    actor = user if by is None else by
    what = {"kind": kind, "judgement": judgement, "seconds": seconds, "reason": reason, "by_user": actor, "at": now}
    tx.execute(sa.insert(judgements), {"task_id": row.id, "user_id": user, "revision": revision, "round_id": round_id, **sides, **what})
    log(tx, now, event or kind, campaign=row.campaign, user=actor, task=row.id, revision=revision)
    return revision


def update_complete(tx: sa.Connection, row: sa.Row[Any], config: CampaignConfig) -> None:
    """Note whether a task has all its judgements, so that dealing need not look at it again."""
    enough = row.kind == "gold" or tx.execute(_NUM_JUDGED, {"task": row.id}).scalar_one() >= (1 if row.owner else config.overlap)
    tx.execute(_COMPLETE, {"task": row.id, "enough": enough})


def _check(row: sa.Row[Any], judgement: Judgement, config: CampaignConfig, left: int) -> None:
    """Raise `Refused` when a judgement cannot stand: outside the campaign's rules, or faulty as a comparison."""
    if row.responses is None:
        raise Refused("no responses yet", f"task {row.id} was not answered by the models yet")
    if judgement.rating not in LEVELS:
        raise Refused("rating outside the scale", f"found {judgement.rating!r}, accepted: {', '.join(LEVELS)}")
    if judgement.side not in ("left", "right"):
        raise Refused("unknown side", f"found {judgement.side!r}, accepted: left, right")
    _check_safety(judgement, config)
    if judgement.edit is not None and config.style != "llama3":
        raise Refused("edit out of place", "only campaigns of style llama3 have the edit step")
    if judgement.edit is not None and len(judgement.edit) > LONGEST_PROMPT:
        raise Refused("edit too long", f"found {len(judgement.edit):,} characters, accepted are {LONGEST_PROMPT:,}")
    found = fault(comparison_of(row, judgement, left=left, campaign=config.kind))
    if found is not None:
        reason, _, rest = found.partition(": ")
        raise Refused(reason, rest)


def _check_safety(judgement: Judgement, config: CampaignConfig) -> None:
    if config.kind == "safety":
        if judgement.safety not in SAFETY_LABELS:
            raise Refused("safety label missing", f"found {judgement.safety!r}, accepted: {', '.join(SAFETY_LABELS)}")
        if judgement.edit is not None and judgement.edit_safe is None:
            raise Refused("safety label missing", "say whether the edit is safe")
    elif judgement.safety is not None or judgement.edit_safe is not None:
        raise Refused("safety label out of place", "a helpfulness campaign asks for none")
    if judgement.edit is None and judgement.edit_safe is not None:
        raise Refused("safety label out of place", "there is no edit that could be safe or not")
