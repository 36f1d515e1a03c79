"""Holds on tasks: taking a slot, keeping it alive, losing it; and what the holder may see.

A hold is a row for (task, annotator), so nobody has a task twice; its slot is unique within the task, so no two annotators ever have the same place, whatever
races there were. A lease that ran out is not a hold: its slot goes to whoever comes next, the draft stays.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from herdling.base.errors import Refused
from herdling.base.records import dialog_from_row
from herdling.base.seeds import stream_seed
from herdling.preference.campaign import CampaignConfig
from herdling.preference.schema import assignments, rounds, tasks
from herdling.types import Dialog

# Built once: these are asked for with every request, and building a statement costs as much as running it.
_OPEN_ROUND = sa.select(rounds).where(rounds.c.campaign == sa.bindparam("campaign"), rounds.c.closed.is_(None))
_TASK = sa.select(tasks).where(tasks.c.id == sa.bindparam("task"))
_HOLD = sa.select(assignments).where(assignments.c.task_id == sa.bindparam("task"), assignments.c.user_id == sa.bindparam("user")).with_for_update()
_EXPIRED = sa.update(assignments).where(assignments.c.state == "held", assignments.c.expires <= sa.bindparam("now")).values(state="expired", slot=None)
_SLOTS = sa.select(assignments.c.slot).where(assignments.c.task_id == sa.bindparam("task"), assignments.c.slot.is_not(None))
_VIEW = sa.select(
    tasks.c.dialog, tasks.c.draws, tasks.c.responses, assignments.c.lease, assignments.c.expires, assignments.c.side_seed, assignments.c.draft
).where(assignments.c.task_id == tasks.c.id, assignments.c.user_id == sa.bindparam("user"), tasks.c.id == sa.bindparam("task"))


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


def left_response(side_seed: int) -> int:
    """Return which of a task's two responses (0 or 1) stands on the left."""
    return side_seed & 1


def open_round_row(tx: sa.Connection, campaign: str) -> sa.Row[Any]:
    """Return a campaign's open round. Read it under a lock of the campaign, or it may close meanwhile. Raises `Refused`."""
    found = tx.execute(_OPEN_ROUND, {"campaign": campaign}).one_or_none()
    if found is None:
        raise Refused("unknown campaign", f"there is no campaign {campaign!r}")
    return found


def open_round(tx: sa.Connection, campaign: str) -> int:
    """Return the id of a campaign's open round, as `open_round_row` does."""
    return int(open_round_row(tx, campaign).id)


def task_row(tx: sa.Connection, task: int) -> sa.Row[Any]:
    """Return a task. Raises `Refused` ("unknown task")."""
    row = tx.execute(_TASK, {"task": task}).one_or_none()
    if row is None:
        raise Refused("unknown task", f"there is no task {task}")
    return row


def check_round(tx: sa.Connection, row: sa.Row[Any]) -> int:
    """Return the round that a task's judgement belongs to: its own, or the open one for a gold item. Raises `Refused` ("round closed")."""
    current = open_round(tx, row.campaign)
    if row.round_id not in (None, current):
        raise Refused("round closed", f"task {row.id} belongs to a round that is closed; nothing can be added to it or changed in it")
    return current


def free_expired(tx: sa.Connection, now: float) -> None:
    """Give back the slots of leases that ran out."""
    tx.execute(_EXPIRED, {"now": now})


def free_slots(tx: sa.Connection, row: sa.Row[Any], config: CampaignConfig) -> list[int]:
    """Return the places of a task that nobody has. A gold item serves everybody and has none; what belongs to one annotator has one."""
    if row.kind == "gold":
        return []
    taken = set(tx.execute(_SLOTS, {"task": row.id}).scalars())
    return [place for place in range(1 if row.owner else config.overlap) if place not in taken]


def take(tx: sa.Connection, row: sa.Row[Any], user: int, config: CampaignConfig, now: float) -> bool:
    """Give an annotator a free slot of a task, anew or again after an expired lease or an undone judgement. Returns False when no slot is free."""
    slot = next(iter(free_slots(tx, row, config)), None)
    if slot is None and row.kind != "gold":
        return False
    taken = _lease(config, now) | {"slot": slot}
    mine = sa.and_(assignments.c.task_id == row.id, assignments.c.user_id == user)
    if not tx.execute(sa.update(assignments).where(mine).values(taken)).rowcount:
        hold(tx, row.id, user, config, now, slot=slot)
    return True


def hold(tx: sa.Connection, task: int, user: int, config: CampaignConfig, now: float, *, slot: int | None) -> None:
    """Give a place of a task to an annotator who never had this task."""
    side_seed = stream_seed(config.seed, "side", task, user)
    identity = {"task_id": task, "user_id": user, "campaign": config.name, "side_seed": side_seed, "slot": slot, "draft": {}}
    tx.execute(sa.insert(assignments), identity | _lease(config, now))


def _lease(config: CampaignConfig, now: float) -> dict[str, Any]:
    return {"state": "held", "lease": secrets.token_hex(12), "began": now, "expires": now + config.lease_seconds}


def held(tx: sa.Connection, row: sa.Row[Any], user: int, lease: str, now: float) -> sa.Row[Any]:
    """Return an annotator's hold, if this is its lease and it runs. Raises `Refused` ("stale lease", "already judged", "round closed")."""
    check_round(tx, row)
    found = tx.execute(_HOLD, {"task": row.id, "user": user}).one_or_none()
    if found is not None and found.state == "judged":
        raise Refused("already judged", f"task {row.id} has your judgement; undo it to judge again")
    if found is None or found.state != "held" or found.lease != lease or found.expires <= now:
        raise Refused("stale lease", f"task {row.id} is no longer held by this page; what was written is kept as a draft. Ask for the next task")
    return found


def extend(tx: sa.Connection, found: sa.Row[Any], config: CampaignConfig, now: float, **values: Any) -> float:
    """Let a running lease end later. Returns when."""
    expires = now + config.lease_seconds
    mine = sa.and_(assignments.c.task_id == found.task_id, assignments.c.user_id == found.user_id)
    tx.execute(sa.update(assignments).where(mine).values(expires=expires, **values))
    return expires


def view(tx: sa.Connection, task: int, user: int) -> Assignment:
    """Return what an annotator may see of a task held."""
    row = tx.execute(_VIEW, {"task": task, "user": user}).one()
    dialog = dialog_from_row(row.dialog, f"task {task}")
    responses = draws = None
    if row.responses is None:
        first, second = (Draw(**draw) for draw in row.draws)
        draws = first, second
    else:
        left = left_response(row.side_seed)
        texts = [response["message"]["content"] for response in row.responses]
        responses = texts[left], texts[1 - left]
    return Assignment(
        task=task,
        dialog=dialog,
        responses=responses,
        draws=draws,
        lease=row.lease,
        expires=row.expires,
        turn=sum(message.role == "user" for message in dialog.messages),
        draft=row.draft,
    )
