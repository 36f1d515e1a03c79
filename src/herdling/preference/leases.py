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


def open_round(tx: sa.Connection, campaign: str) -> int:
    """Return the number (id) of a campaign's open round. Read it under a lock of the campaign, or it may close meanwhile."""
    return int(tx.execute(sa.select(rounds.c.id).where(rounds.c.campaign == campaign, rounds.c.closed.is_(None))).scalar_one())


def task_row(tx: sa.Connection, task: int) -> sa.Row[Any]:
    """Return a task. Raises `Refused` ("unknown task")."""
    row = tx.execute(sa.select(tasks).where(tasks.c.id == task)).one_or_none()
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
    gone = sa.and_(assignments.c.state == "held", assignments.c.expires <= now)
    tx.execute(sa.update(assignments).where(gone).values(state="expired", slot=None))


def take(tx: sa.Connection, row: sa.Row[Any], user: int, config: CampaignConfig, now: float) -> bool:
    """Give an annotator a free slot of a task, anew or again after an expired lease or an undone judgement. Returns False when no slot is free.

    A gold item serves everybody, and what belongs to one annotator has one slot.
    """
    slot = None
    if row.kind != "gold":
        taken = set(tx.execute(sa.select(assignments.c.slot).where(assignments.c.task_id == row.id, assignments.c.slot.is_not(None))).scalars())
        free = [place for place in range(1 if row.owner else config.overlap) if place not in taken]
        if not free:
            return False
        slot = free[0]
    hold = {"slot": slot, "state": "held", "lease": secrets.token_hex(12), "began": now, "expires": now + config.lease_seconds}
    mine = sa.and_(assignments.c.task_id == row.id, assignments.c.user_id == user)
    if not tx.execute(sa.update(assignments).where(mine).values(hold)).rowcount:
        side_seed = stream_seed(config.seed, "side", row.id, user)
        tx.execute(sa.insert(assignments).values(task_id=row.id, user_id=user, campaign=row.campaign, side_seed=side_seed, draft={}, **hold))
    return True


def held(tx: sa.Connection, row: sa.Row[Any], user: int, lease: str, now: float) -> sa.Row[Any]:
    """Return an annotator's hold, if this is its lease and it runs. Raises `Refused` ("stale lease", "already judged", "round closed")."""
    check_round(tx, row)
    mine = sa.select(assignments).where(assignments.c.task_id == row.id, assignments.c.user_id == user).with_for_update()
    hold = tx.execute(mine).one_or_none()
    if hold is not None and hold.state == "judged":
        raise Refused("already judged", f"task {row.id} has your judgement; undo it to judge again")
    if hold is None or hold.state != "held" or hold.lease != lease or hold.expires <= now:
        raise Refused("stale lease", f"task {row.id} is no longer held by this page; what was written is kept as a draft. Ask for the next task")
    return hold


def extend(tx: sa.Connection, hold: sa.Row[Any], config: CampaignConfig, now: float, **values: Any) -> float:
    """Let a running lease end later. Returns when."""
    expires = now + config.lease_seconds
    mine = sa.and_(assignments.c.task_id == hold.task_id, assignments.c.user_id == hold.user_id)
    tx.execute(sa.update(assignments).where(mine).values(expires=expires, **values))
    return expires


def view(tx: sa.Connection, task: int, user: int) -> Assignment:
    """Return what an annotator may see of a task held."""
    mine = sa.and_(assignments.c.task_id == tasks.c.id, assignments.c.user_id == user, tasks.c.id == task)
    columns = (tasks.c.dialog, tasks.c.draws, tasks.c.responses, assignments.c.lease, assignments.c.expires, assignments.c.side_seed, assignments.c.draft)
    row = tx.execute(sa.select(*columns).where(mine)).one()
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
